//! Pages that people see: login, consent, accounts at servers, what was let in, errors. HTML of templates, without script.
//!
//! A page knows nothing of requests: whoever answers one fills in a view and sends what [`Page::into_response`] makes of it.

mod connect;
mod connections;
mod consent;
pub mod cookie;
pub mod csrf;
mod page;
mod passing_on;
mod shown;
mod sign_in;
mod to_idp;
mod trouble;

pub use self::{
    connect::{
        Approve, Connect, ConnectFirst, Connected, EnterToken, Offer, Service, approve, connect,
        connect_first, connected, enter_token,
    },
    connections::{AccountAction, AccountState, Connections, Done, ShownAccount, ShownGrant, connections},
    consent::{Consent, Identified, RedirectTarget, SCOPE_FIELD, ScopeChoice, ScopeMeaning, consent},
    page::{Form, Page},
    passing_on::{Outcome, PassingOn, passing_on},
    shown::{Moment, Shown, name_by},
    sign_in::{Asks, NotSignedIn, SignIn, sign_in},
    to_idp::{ToIdp, to_idp},
    trouble::{Trouble, WayOn, trouble},
};

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
