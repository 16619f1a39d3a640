//! What workers are told first: the settings that were read, and what somebody else adds to them.

use std::io;
use std::os::fd::OwnedFd;

use serde_json::Value;

use crate::control::settings_file;

/// A set-up, and the file that it is passed in.
#[derive(Debug)]
pub(crate) struct Settings {
    setup: Value,
    file: OwnedFd,
}

impl Settings {
    /// The keys of `added` count more than those of `setup`.
    pub(crate) fn new(setup: Value, added: &Value) -> io::Result<Self> {
        let setup = with(setup, added);
        Ok(Self { file: settings_file(&setup)?, setup })
    }

    /// The same with other additions.
    pub(crate) fn renewed(&self, added: &Value) -> io::Result<Self> {
        Self::new(self.setup.clone(), added)
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }
}

fn with(mut setup: Value, added: &Value) -> Value {
    if let (Value::Object(setup), Value::Object(added)) = (&mut setup, added) {
        setup.extend(added.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    setup
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn additions_are_replaced_and_the_rest_stays() {
        let setup = json!({ "workers": 2 });
        let settings = Settings::new(setup, &json!({ "added": 1 })).unwrap();
        assert_eq!(settings.setup, json!({ "workers": 2, "added": 1 }));
        let settings = settings.renewed(&json!({ "added": 2 })).unwrap();
        assert_eq!(settings.setup, json!({ "workers": 2, "added": 2 }));
        let settings = Settings::new(json!("no object"), &Value::Null).unwrap();
        assert_eq!(settings.setup, json!("no object"));
    }
}
