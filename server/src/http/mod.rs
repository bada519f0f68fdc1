//! Connections: accepting, TLS, HTTP/1.1 and HTTP/2, draining. What is asked over them is no matter here.

mod any_certificate;
#[cfg(test)]
mod cost;
mod direct;
mod early;
mod front;
mod listener;
mod patience;
mod reload;
mod tls;

pub(crate) use any_certificate::any_certificate;
pub(crate) use listener::Listener;
pub(crate) use reload::Reloads;
