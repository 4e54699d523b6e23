//! Names of a request on its way. On each side of the gateway it has another, so each message about it gets the name that its
//! receiver gave it.

use super::message::{Id, Malformed, Message, Part};

impl Message {
    /// The request under a number of the gateway's own. That stands for all that its server says about it: the id of the
    /// response, the token of its progress, the id of what it subscribed to.
    ///
    /// A client has no subscription id to send; a server that sent it back would send it to whom it names.
    pub fn numbered(&self, number: u64) -> Result<Self, Malformed> {
        let number = number.to_string();
        let parts = [Part::Id, Part::ProgressToken, Part::SubscriptionId];
        self.with(&parts.map(|part| (part, number.as_str().into())))
    }

    /// The message with this name for the request that it is about.
    pub fn renamed(&self, part: Part, name: &Id) -> Result<Self, Malformed> {
        self.with(&[(part, name.to_string().into())])
    }
}
