//! One table of the file, taken apart key by key; what is left over is unknown.

use std::borrow::Cow;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::mistake::Notes;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) at: Range<usize>,
}

impl<T> At<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At { value: change(self.value), at: self.at }
    }
}

/// A table that is being read. [`Section::end`] must be called when all keys were asked for.
#[derive(Debug)]
pub(crate) struct Section<'s> {
    name: String,
    at: Range<usize>,
    table: DeTable<'s>,
    asked: Vec<&'static str>,
}

impl<'s> Section<'s> {
    pub(crate) fn new(name: impl Into<String>, at: Range<usize>, table: DeTable<'s>) -> Self {
        Section { name: name.into(), at, table, asked: Vec::new() }
    }

    /// Where the table begins.
    pub(crate) fn at(&self) -> &Range<usize> {
        &self.at
    }

    fn take(&mut self, key: &'static str) -> Option<At<DeValue<'s>>> {
        self.asked.push(key);
        let value: Spanned<DeValue<'s>> = self.table.remove(key)?;
        Some(At { at: value.span(), value: value.into_inner() })
    }

    /// The key as it is written in messages.
    pub(crate) fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    pub(crate) fn string(
        &mut self,
        key: &'static str,
        notes: &mut Notes<'_>,
    ) -> Option<At<String>> {
        let found = self.take(key)?;
        match found.value {
            DeValue::String(text) => Some(At { value: text.into_owned(), at: found.at }),
            other => self.wrong_type(key, "a string in quotes", &other, &found.at, notes),
        }
    }

    /// A string that is read by `T`'s own rules; `hint` says what those are.
    pub(crate) fn parsed<T: FromStr>(
        &mut self,
        key: &'static str,
        hint: &str,
        notes: &mut Notes<'_>,
    ) -> Option<At<T>>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.string(key, notes)?;
        parse(&self.path(key), text, hint, notes)
    }

    pub(crate) fn required<T>(
        &self,
        key: &'static str,
        found: Option<At<T>>,
        hint: &str,
        notes: &mut Notes<'_>,
    ) -> Option<At<T>> {
        if found.is_none() && !notes.mentions(&self.path(key)) {
            let message = format!("'{}' is missing", self.path(key));
            if self.name.is_empty() {
                notes.add_to_file(message, hint);
            } else {
                notes.add(&self.at, message, hint);
            }
        }
        found
    }

    pub(crate) fn integer(
        &mut self,
        key: &'static str,
        legal: Range<u64>,
        notes: &mut Notes<'_>,
    ) -> Option<At<u64>> {
        let found = self.take(key)?;
        let DeValue::Integer(integer) = &found.value else {
            return self.wrong_type(key, "a whole number", &found.value, &found.at, notes);
        };
        let digits = integer.as_str().replace('_', "");
        match u64::from_str_radix(&digits, integer.radix()) {
            Ok(number) if legal.contains(&number) => Some(At { value: number, at: found.at }),
            _ => {
                let (low, high) = (legal.start, legal.end - 1);
                let message = format!("'{}' must be from {low} to {high}", self.path(key));
                notes.add(&found.at, message, "");
                None
            }
        }
    }

    pub(crate) fn boolean(&mut self, key: &'static str, notes: &mut Notes<'_>) -> Option<At<bool>> {
        let found = self.take(key)?;
        match found.value {
            DeValue::Boolean(value) => Some(At { value, at: found.at }),
            other => self.wrong_type(key, "true or false", &other, &found.at, notes),
        }
    }

    /// A list of strings, each read by `T`'s own rules.
    pub(crate) fn list<T: FromStr>(
        &mut self,
        key: &'static str,
        hint: &str,
        notes: &mut Notes<'_>,
    ) -> Option<At<Vec<At<T>>>>
    where
        T::Err: std::fmt::Display,
    {
        let found = self.take(key)?;
        let DeValue::Array(items) = found.value else {
            return self.wrong_type(key, "a list in brackets", &found.value, &found.at, notes);
        };
        let mut list = Vec::new();
        for item in items {
            let at = item.span();
            match item.into_inner() {
                DeValue::String(text) => {
                    let text = At { value: text.into_owned(), at };
                    list.extend(parse(&self.path(key), text, hint, notes));
                }
                other => {
                    self.wrong_type::<()>(key, "a list of strings", &other, &at, notes);
                }
            }
        }
        Some(At { value: list, at: found.at })
    }

    /// A table within this one.
    pub(crate) fn section(
        &mut self,
        key: &'static str,
        notes: &mut Notes<'_>,
    ) -> Option<Section<'s>> {
        let found = self.take(key)?;
        let path = self.path(key);
        match found.value {
            DeValue::Table(table) => Some(Section::new(path, found.at, table)),
            other => self.wrong_type(key, &format!("a table, [{path}]"), &other, &found.at, notes),
        }
    }

    /// A list of tables, `[[name]]`.
    pub(crate) fn sections(
        &mut self,
        key: &'static str,
        notes: &mut Notes<'_>,
    ) -> Vec<Section<'s>> {
        let Some(found) = self.take(key) else { return Vec::new() };
        let path = self.path(key);
        let expected = format!("a list of tables, [[{path}]]");
        let DeValue::Array(items) = found.value else {
            self.wrong_type::<()>(key, &expected, &found.value, &found.at, notes);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            let at = item.span();
            match item.into_inner() {
                DeValue::Table(table) => sections.push(Section::new(path.clone(), at, table)),
                other => {
                    self.wrong_type::<()>(key, &expected, &other, &at, notes);
                }
            }
        }
        sections
    }

    /// Tables within one table, by names that the operator chose: `[key.NAME]`.
    pub(crate) fn named_sections(
        &mut self,
        key: &'static str,
        notes: &mut Notes<'_>,
    ) -> Vec<(At<String>, Section<'s>)> {
        let path = self.path(key);
        let mut sections = Vec::new();
        for (name, found) in self.entries(key, notes) {
            let inner = format!("{path}.{}", name.value);
            match found.value {
                DeValue::Table(table) => {
                    sections.push((name, Section::new(inner, found.at, table)));
                }
                other => {
                    let expected = format!("a table, [{inner}]");
                    self.wrong_type::<()>(key, &expected, &other, &found.at, notes);
                }
            }
        }
        sections
    }

    /// Strings within one table, by names that the operator chose.
    pub(crate) fn named_strings(
        &mut self,
        key: &'static str,
        notes: &mut Notes<'_>,
    ) -> Vec<(At<String>, At<String>)> {
        let mut strings = Vec::new();
        for (name, found) in self.entries(key, notes) {
            match found.value {
                DeValue::String(text) => {
                    strings.push((name, At { value: text.into_owned(), at: found.at }));
                }
                other => {
                    self.wrong_type::<()>(key, "strings in quotes", &other, &found.at, notes);
                }
            }
        }
        strings
    }

    fn entries(
        &mut self,
        key: &'static str,
        notes: &mut Notes<'_>,
    ) -> Vec<(At<String>, At<DeValue<'s>>)> {
        let Some(found) = self.take(key) else { return Vec::new() };
        let DeValue::Table(table) = found.value else {
            let expected = format!("a table, [{}]", self.path(key));
            self.wrong_type::<()>(key, &expected, &found.value, &found.at, notes);
            return Vec::new();
        };
        let entry = |(name, value): (Spanned<Cow<'s, str>>, Spanned<DeValue<'s>>)| {
            let name = At { at: name.span(), value: name.into_inner().into_owned() };
            (name, At { at: value.span(), value: value.into_inner() })
        };
        table.into_iter().map(entry).collect()
    }

    /// A string, or else a table.
    pub(crate) fn strings_or_sections(
        &mut self,
        key: &'static str,
        notes: &mut Notes<'_>,
    ) -> Vec<Result<At<String>, Section<'s>>> {
        let Some(found) = self.take(key) else { return Vec::new() };
        let path = self.path(key);
        let DeValue::Array(items) = found.value else {
            let expected = "a list in brackets";
            self.wrong_type::<()>(key, expected, &found.value, &found.at, notes);
            return Vec::new();
        };
        let mut list = Vec::new();
        for item in items {
            let at = item.span();
            match item.into_inner() {
                DeValue::String(text) => list.push(Ok(At { value: text.into_owned(), at })),
                DeValue::Table(table) => list.push(Err(Section::new(path.clone(), at, table))),
                other => {
                    self.wrong_type::<()>(key, "a list of strings or tables", &other, &at, notes);
                }
            }
        }
        list
    }

    /// Whatever stands there, as JSON: a section that is somebody else's to read.
    pub(crate) fn json(&mut self, key: &'static str) -> Option<At<serde_json::Value>> {
        let found = self.take(key)?;
        Some(At { value: json(found.value), at: found.at })
    }

    /// A number with a fraction or without.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        legal: std::ops::RangeInclusive<f64>,
        notes: &mut Notes<'_>,
    ) -> Option<At<f64>> {
        let found = self.take(key)?;
        let text = match &found.value {
            DeValue::Float(float) => float.as_str().replace('_', ""),
            DeValue::Integer(integer) => integer.as_str().replace('_', ""),
            other => return self.wrong_type(key, "a number", other, &found.at, notes),
        };
        match text.parse() {
            Ok(number) if legal.contains(&number) => Some(At { value: number, at: found.at }),
            _ => {
                let (low, high) = (legal.start(), legal.end());
                let message = format!("'{}' must be from {low} to {high}", self.path(key));
                notes.add(&found.at, message, "");
                None
            }
        }
    }

    /// A string, or else a list of tables.
    pub(crate) fn string_or_sections(
        &mut self,
        key: &'static str,
        notes: &mut Notes<'_>,
    ) -> Option<Result<At<String>, Vec<Section<'s>>>> {
        if self.table.get(key)?.get_ref().is_str() {
            return self.string(key, notes).map(Ok);
        }
        Some(Err(self.sections(key, notes)))
    }

    /// Every key that nobody asked for is a mistake.
    pub(crate) fn end(self, notes: &mut Notes<'_>) {
        for (key, _) in &self.table {
            let name = key.get_ref().as_ref();
            let place = match self.name.as_str() {
                "" => "at the top level".to_owned(),
                section => format!("in [{section}]"),
            };
            let nearest = self.asked.iter().min_by_key(|known| distance(known, name));
            let hint = match nearest {
                Some(known) if distance(known, name) <= 1 + name.len() / 4 => {
                    format!("did you mean '{known}'?")
                }
                _ => format!("known keys here: {}", self.asked.join(", ")),
            };
            notes.add(&key.span(), format!("unknown key '{name}' {place}"), &hint);
        }
    }

    fn wrong_type<T>(
        &self,
        key: &str,
        expected: &str,
        found: &DeValue<'_>,
        at: &Range<usize>,
        notes: &mut Notes<'_>,
    ) -> Option<T> {
        let path = self.path(key);
        let found = found.type_str();
        let article = if found.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        notes.add(at, format!("'{path}' must be {expected}, not {article} {found}"), "");
        None
    }
}

/// A moment becomes its text: JSON has no other way to say it.
fn json(value: DeValue<'_>) -> serde_json::Value {
    use serde_json::Value;
    match value {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(integer) => {
            let digits = integer.as_str().replace('_', "");
            let number = i64::from_str_radix(&digits, integer.radix());
            number.map_or(Value::String(digits), Value::from)
        }
        DeValue::Float(float) => {
            let digits = float.as_str().replace('_', "");
            let number = digits.parse().ok().and_then(serde_json::Number::from_f64);
            number.map_or(Value::String(digits), Value::Number)
        }
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(moment) => Value::String(moment.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.into_iter().map(|item| json(item.into_inner())).collect())
        }
        DeValue::Table(table) => Value::Object(
            table
                .into_iter()
                .map(|(key, value)| (key.into_inner().into_owned(), json(value.into_inner())))
                .collect(),
        ),
    }
}

fn parse<T: FromStr>(
    path: &str,
    text: At<String>,
    hint: &str,
    notes: &mut Notes<'_>,
) -> Option<At<T>>
where
    T::Err: std::fmt::Display,
{
    match text.value.parse() {
        Ok(value) => Some(text.map(|_| value)),
        Err(error) => {
            notes.add(&text.at, format!("'{path}': {error}"), hint);
            None
        }
    }
}

/// How many single-character edits lie between two words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, cb) in b.chars().enumerate() {
            let replace = corner + usize::from(ca != cb);
            corner = row[j + 1];
            row[j + 1] = replace.min(corner + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}
