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

/// The variable of a setting that was meant by one that nobody reads: one slip away, or two. Others with our
/// prefix are not ours to judge: Kubernetes makes some for a service of that name.
pub(crate) fn nearest_variable(
    name: &str,
    settings: impl Iterator<Item = &'static Setting>,
) -> Option<String> {
    let name = name.strip_prefix("RSGI_")?.to_ascii_lowercase();
    let settings = settings.filter(|setting| setting.reach.variables);
    let names: Vec<&str> = settings.flat_map(Setting::names).collect();
    if name.len() < SHORTEST || names.contains(&name.as_str()) {
        return None;
    }
    let known =
        names.into_iter().find(|known| (1..=2).contains(&strsim::osa_distance(&name, known)))?;
    Some(format!("RSGI_{}", known.to_ascii_uppercase()))
}

/// Of shorter names everything is two slips away.
const SHORTEST: usize = 4;

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
