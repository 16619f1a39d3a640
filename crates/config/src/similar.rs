//! Which known name was meant by an unknown one.

use crate::setting::{Group, Setting};

/// How similar a name must be to be suggested (1 is equal); clap's threshold for options.
const SIMILAR: f64 = 0.7;

/// The name nearest to `name`, if one is near, and if it is of a setting of this server: what is
/// only there to be explained is nothing to recommend.
pub(crate) fn nearest_own(
    name: &str,
    settings: impl Iterator<Item = &'static Setting>,
) -> Option<&'static str> {
    let known = settings.flat_map(|setting| setting.names().map(move |name| (name, setting.group)));
    let known: Vec<(&'static str, Group)> = known.collect();
    let nearest = nearest(name, known.iter().map(|(known, _)| *known))?;
    (!known.contains(&(nearest, Group::Compatibility))).then_some(nearest)
}

/// The known name nearest to `name`, if one is near. Dashes and underscores are the same.
pub(crate) fn nearest(
    name: &str,
    known: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let name = name.replace('-', "_");
    known
        .map(|known| (strsim::jaro(&name, &known.replace('-', "_")), known))
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
