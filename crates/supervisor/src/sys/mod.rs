//! Every unsafe operation of this crate, one per block and each with its argument.
//!
//! Owns: the shared mapping, taking over inherited descriptors, the local time, and what runs between
//! fork and exec. Must not know: policy, messages, settings.
#![expect(unsafe_code, reason = "the one folder of this crate where it is allowed; see the header")]

pub(crate) mod child;
pub(crate) mod clock;
pub(crate) mod descriptor;
pub(crate) mod shared;
