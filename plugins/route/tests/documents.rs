//! The README and the schema say what the plugin takes.

#[path = "../../documents.rs"]
mod documents;

use route::{Config, Router};
use waypost_sdk::prelude::Plugin;

const README: &str = include_str!("../README.md");
const SCHEMA: &str = include_str!("../config.schema.json");

#[test]
fn what_the_readme_shows_is_taken() {
    let configs = documents::configs(README, "route");
    assert!(!configs.is_empty());
    for config in configs {
        documents::must_fit(SCHEMA, &config);
        let config: Config = serde_json::from_value(config).unwrap();
        Router::new(config).unwrap();
    }
}

#[test]
fn the_readme_tells_of_every_key() {
    documents::must_tell_all(SCHEMA, README);
}
