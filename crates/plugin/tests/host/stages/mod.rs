//! Plugins that behave: what they see, what they may ask, and what their answers come to together.

mod compose;
mod grants;
mod languages;
mod modes;
mod reading;
mod seen;
