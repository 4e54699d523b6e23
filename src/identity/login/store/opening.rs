//! What is asked for while a file is opened.

use std::time::SystemTime;

use super::fault::StoreFault;

/// How a file is opened. Between two steps a disk may have taken any time.
#[derive(Clone, Copy)]
pub struct Opening<'a> {
    /// The time of day, asked for once nobody else can write.
    pub now: &'a dyn Fn() -> SystemTime,
    /// Whether it is still to be opened. Of a file that is not, nothing is made or changed any more.
    pub is_wanted: &'a dyn Fn() -> bool,
}

impl Opening<'_> {
    /// Fails if it is not.
    pub(super) fn go_on(&self) -> Result<(), StoreFault> {
        if (self.is_wanted)() {
            Ok(())
        } else {
            Err(StoreFault::new("the config names another place by now"))
        }
    }
}
