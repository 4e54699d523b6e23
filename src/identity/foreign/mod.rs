//! Tokens that others issue: whose they are, what of them is taken, and by which keys that is known.

pub mod answer;
pub mod assertion;
pub mod introspection;
pub mod jwks;
pub mod jwt;
pub mod keys;
pub mod recent;
pub mod source;
pub mod token_endpoint;
pub mod verified;

#[cfg(test)]
mod assertion_tests;
#[cfg(test)]
mod introspection_tests;
#[cfg(test)]
mod jwt_tests;
#[cfg(test)]
mod keys_tests;
#[cfg(test)]
pub(in crate::identity) mod signer;
