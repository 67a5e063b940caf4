//! The part of the regex crate's interface that oci-spec uses, by the small engine of the same authors.

pub use regex_lite::{Regex, RegexBuilder};
