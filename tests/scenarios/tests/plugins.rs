//! Stories of plugins: real components in the whole program, replaced, broken and rolled back while mail
//! flows.

#[path = "plugins/a_broken_plugin_loses_nothing.rs"]
mod a_broken_plugin_loses_nothing;
#[path = "plugins/operators_look_and_steer.rs"]
mod operators_look_and_steer;
#[path = "plugins/plugins_are_replaced_while_mail_flows.rs"]
mod plugins_are_replaced_while_mail_flows;
#[path = "plugins/the_plugin_of_the_readme.rs"]
mod the_plugin_of_the_readme;
#[path = "plugins/why_tells_what_plugins_decided.rs"]
mod why_tells_what_plugins_decided;
