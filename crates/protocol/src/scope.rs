//! What scope keys mean, where that takes more than copying a field.
//!
//! Owns: the versions announced under `asgi`, and how `root_path` enters `path` and `raw_path`.
//! Must not know: Python dicts.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// `scope["asgi"]["version"]`.
pub const ASGI_VERSION: &str = "3.0";

/// `scope["asgi"]["spec_version"]` for `http` and `websocket`: with 2.4 and later `send()` raises
/// after a disconnect, and Starlette relies on it.
pub const HTTP_SPEC_VERSION: &str = "2.5";

/// `scope["asgi"]["spec_version"]` for `lifespan`.
pub const LIFESPAN_SPEC_VERSION: &str = "2.0";

/// What a raw path cannot contain as it is: everything outside visible ASCII is encoded anyway.
const NOT_IN_A_PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?');

/// The `path` of a scope: ASGI wants it to include `root_path`, and the proxy that stripped the
/// prefix did not send it. `*` (`OPTIONS` about the server) is no path and stays.
pub fn with_root_path<'a>(root_path: &str, path: Cow<'a, str>) -> Cow<'a, str> {
    if root_path.is_empty() || path == "*" {
        return path;
    }
    Cow::Owned([root_path, &path].concat())
}

/// The `raw_path` of a scope, given [`encode_root_path`] of the root path.
pub fn with_raw_root_path<'a>(raw_root_path: &str, raw_path: &'a [u8]) -> Cow<'a, [u8]> {
    if raw_root_path.is_empty() || raw_path == b"*" {
        return Cow::Borrowed(raw_path);
    }
    Cow::Owned([raw_root_path.as_bytes(), raw_path].concat())
}

/// The root path as it would stand in a request line; done once, at the start.
pub fn encode_root_path(root_path: &str) -> Cow<'_, str> {
    utf8_percent_encode(root_path, NOT_IN_A_PATH).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_path_is_put_before_path_and_raw_path() {
        for (root, path, expected) in [
            ("", "/a", "/a"),
            ("/api", "/a", "/api/a"),
            ("/api", "/", "/api/"),
            ("/api", "/api/a", "/api/api/a"),
            ("/api", "*", "*"),
        ] {
            assert_eq!(with_root_path(root, Cow::Borrowed(path)), expected);
            assert_eq!(*with_raw_root_path(root, path.as_bytes()), *expected.as_bytes());
        }
        assert!(matches!(with_root_path("", Cow::Borrowed("/a")), Cow::Borrowed(_)));
    }

    #[test]
    fn a_root_path_outside_ascii_is_encoded_for_the_raw_path() {
        assert_eq!(encode_root_path("/api"), "/api");
        assert_eq!(encode_root_path("/caf\u{e9} 1"), "/caf%C3%A9%201");
        assert_eq!(encode_root_path("/a%20b"), "/a%20b");
    }
}
