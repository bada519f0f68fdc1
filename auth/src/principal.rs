//! Who a caller is.

use std::fmt;
use std::sync::Arc;

/// Who a caller is, once established. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Nobody in particular.
    Anonymous,
    /// A user whose password was verified.
    User(Arc<str>),
}

impl Principal {
    /// The user's name; none for anonymous callers.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::User(name) => Some(name),
        }
    }
}

/// The name, or `-` as in access logs.
impl fmt::Display for Principal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name().unwrap_or("-"))
    }
}
