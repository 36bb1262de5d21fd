//! Enums whose values have one word each, in logs, metrics and files.

/// A word that is none of those that are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{word}' is none of: {known}")]
pub struct UnknownWord {
    word: String,
    known: String,
}

impl UnknownWord {
    pub(crate) fn new<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> UnknownWord {
        UnknownWord { word: word.to_owned(), known: known.collect::<Vec<_>>().join(", ") }
    }
}

/// An enum whose values have one word each, in logs, metrics and rules.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord,
            serde::Serialize, serde::Deserialize,
        )]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$doc])* $value,)+ }

        impl $name {
            /// All there are.
            pub const ALL: &[$name] = &[$($name::$value,)+];

            /// In one word.
            pub const fn word(self) -> &'static str {
                match self { $($name::$value => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::words::UnknownWord;
            fn from_str(text: &str) -> Result<$name, $crate::words::UnknownWord> {
                let found = $name::ALL.iter().copied().find(|value| value.word() == text);
                found.ok_or_else(|| {
                    let known = $name::ALL.iter().map(|value| value.word());
                    $crate::words::UnknownWord::new(text, known)
                })
            }
        }
    };
}
pub(crate) use words;
