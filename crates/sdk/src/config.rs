//! The configuration of a plugin, typed.

use serde::de::DeserializeOwned;

/// Reads the JSON that the host hands to `init`.
///
/// # Errors
/// Names the path of the key that is wrong, such as `rules[2].to.host`.
pub(crate) fn read<C: DeserializeOwned>(json: &str) -> Result<C, String> {
    let json = if json.trim().is_empty() { "{}" } else { json };
    let mut reader = serde_json::Deserializer::from_str(json);
    let config = serde_path_to_error::deserialize(&mut reader).map_err(|wrong| {
        let path = wrong.path().to_string();
        let what = without_position(&wrong.into_inner().to_string());
        if path == "." { what } else { format!("{path}: {what}") }
    })?;
    reader.end().map_err(|_| "the configuration is more than one JSON value".to_owned())?;
    Ok(config)
}

/// The operator wrote TOML: lines and columns of the JSON made from it would mislead.
fn without_position(message: &str) -> String {
    match message.rfind(" at line ") {
        Some(at) => message[..at].to_owned(),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::read;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Rule {
        to: String,
    }

    #[derive(Debug, Deserialize, PartialEq, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        rules: Vec<Rule>,
    }

    #[test]
    fn no_section_is_the_default() {
        assert_eq!(read::<Config>(""), Ok(Config::default()));
        assert_eq!(read::<Config>("{}"), Ok(Config::default()));
    }

    #[test]
    fn the_wrong_key_is_named_by_its_path() {
        let wrong = read::<Config>(r#"{"rules":[{"to":"a"},{"to":7}]}"#).unwrap_err();
        assert!(wrong.starts_with("rules[1].to: invalid type: integer"), "{wrong}");
        assert!(!wrong.contains("line"), "{wrong}");
        let wrong = read::<Config>(r#"{"rulez":[]}"#).unwrap_err();
        assert!(wrong.contains("unknown field `rulez`, expected `rules`"), "{wrong}");
    }
}
