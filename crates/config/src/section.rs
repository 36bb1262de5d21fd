//! One table of the file, taken apart key by key; what is left over is unknown.

use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::json;
use crate::mistake::Notes;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) at: Range<usize>,
}

impl<T> At<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At { value: change(self.value), at: self.at }
    }
}

/// A table that is being read. [`Section::end`] must be called when all keys were asked for.
#[derive(Debug)]
pub(crate) struct Section<'s> {
    name: String,
    at: Range<usize>,
    table: DeTable<'s>,
    asked: Vec<String>,
}

/// What a list may have in short and in full.
#[derive(Debug)]
pub(crate) enum Item<'s> {
    Text(At<String>),
    Table(Section<'s>),
}

impl<'s> Section<'s> {
    pub(crate) fn new(name: impl Into<String>, at: Range<usize>, table: DeTable<'s>) -> Self {
        Section { name: name.into(), at, table, asked: Vec::new() }
    }

    /// The table as it is written in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where the table begins.
    pub(crate) fn at(&self) -> &Range<usize> {
        &self.at
    }

    fn take(&mut self, key: &str) -> Option<At<DeValue<'s>>> {
        self.asked.push(key.to_owned());
        let value: Spanned<DeValue<'s>> = self.table.remove(key)?;
        Some(At { at: value.span(), value: value.into_inner() })
    }

    /// The key as it is written in messages.
    pub(crate) fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    pub(crate) fn string(&mut self, key: &str, notes: &mut Notes<'_>) -> Option<At<String>> {
        let found = self.take(key)?;
        match found.value {
            DeValue::String(text) => Some(At { value: text.into_owned(), at: found.at }),
            other => self.wrong_type(key, "a string in quotes", &other, &found.at, notes),
        }
    }

    /// A string that is read by `T`'s own rules; `hint` says what those are.
    pub(crate) fn parsed<T: FromStr>(
        &mut self,
        key: &str,
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
        key: &str,
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
        key: &str,
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

    /// A whole number that may be below zero.
    pub(crate) fn signed(
        &mut self,
        key: &str,
        legal: RangeInclusive<i64>,
        notes: &mut Notes<'_>,
    ) -> Option<i64> {
        let found = self.take(key)?;
        let DeValue::Integer(integer) = &found.value else {
            return self.wrong_type(key, "a whole number", &found.value, &found.at, notes);
        };
        let digits = integer.as_str().replace('_', "");
        let number = i64::from_str_radix(&digits, integer.radix()).ok();
        let number = number.filter(|number| legal.contains(number));
        if number.is_none() {
            let (low, high) = (legal.start(), legal.end());
            let message = format!("'{}' must be from {low} to {high}", self.path(key));
            notes.add(&found.at, message, "");
        }
        number
    }

    /// A number with or without a fraction, more than zero and at most `most`.
    pub(crate) fn share(&mut self, key: &str, most: f64, notes: &mut Notes<'_>) -> Option<At<f64>> {
        let found = self.take(key)?;
        let number = match &found.value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) => integer.as_str().parse().ok(),
            other => return self.wrong_type(key, "a number", other, &found.at, notes),
        };
        match number {
            Some(number) if number > 0.0 && number <= most => {
                Some(At { value: number, at: found.at })
            }
            _ => {
                let message = format!("'{}' must be more than 0, at most {most}", self.path(key));
                notes.add(&found.at, message, "");
                None
            }
        }
    }

    /// A number with or without a fraction, within these bounds.
    pub(crate) fn number(
        &mut self,
        key: &str,
        legal: RangeInclusive<f64>,
        notes: &mut Notes<'_>,
    ) -> Option<At<f64>> {
        let found = self.take(key)?;
        let number: Option<f64> = match &found.value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) => integer.as_str().parse().ok(),
            other => return self.wrong_type(key, "a number", other, &found.at, notes),
        };
        if let Some(value) = number.filter(|number| legal.contains(number)) {
            return Some(At { value, at: found.at });
        }
        let (least, most) = (legal.start(), legal.end());
        notes.add(&found.at, format!("'{}' must be from {least} to {most}", self.path(key)), "");
        None
    }

    pub(crate) fn boolean(&mut self, key: &str, notes: &mut Notes<'_>) -> Option<At<bool>> {
        let found = self.take(key)?;
        match found.value {
            DeValue::Boolean(value) => Some(At { value, at: found.at }),
            other => self.wrong_type(key, "true or false", &other, &found.at, notes),
        }
    }

    /// A list of strings, each read by `T`'s own rules.
    pub(crate) fn list<T: FromStr>(
        &mut self,
        key: &str,
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
    pub(crate) fn section(&mut self, key: &str, notes: &mut Notes<'_>) -> Option<Section<'s>> {
        let found = self.take(key)?;
        let path = self.path(key);
        match found.value {
            DeValue::Table(table) => Some(Section::new(path, found.at, table)),
            other => self.wrong_type(key, &format!("a table, [{path}]"), &other, &found.at, notes),
        }
    }

    /// A list of tables, `[[name]]`.
    pub(crate) fn sections(&mut self, key: &str, notes: &mut Notes<'_>) -> Vec<Section<'s>> {
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

    /// A string, or else a list of tables.
    pub(crate) fn string_or_sections(
        &mut self,
        key: &str,
        notes: &mut Notes<'_>,
    ) -> Option<Result<At<String>, Vec<Section<'s>>>> {
        if self.table.get(key)?.get_ref().is_str() {
            return self.string(key, notes).map(Ok);
        }
        Some(Err(self.sections(key, notes)))
    }

    /// A list of strings and tables.
    pub(crate) fn strings_and_sections(
        &mut self,
        key: &str,
        notes: &mut Notes<'_>,
    ) -> Option<At<Vec<Item<'s>>>> {
        let found = self.take(key)?;
        let path = self.path(key);
        let DeValue::Array(items) = found.value else {
            return self.wrong_type(key, "a list in brackets", &found.value, &found.at, notes);
        };
        let mut list = Vec::new();
        for item in items {
            let at = item.span();
            match item.into_inner() {
                DeValue::String(text) => list.push(Item::Text(At { value: text.into_owned(), at })),
                DeValue::Table(table) => {
                    list.push(Item::Table(Section::new(path.clone(), at, table)))
                }
                other => {
                    self.wrong_type::<()>(key, "a list of strings and tables", &other, &at, notes);
                }
            }
        }
        Some(At { value: list, at: found.at })
    }

    /// A table of anything, as a JSON object; what it means is for others to say.
    pub(crate) fn json(&mut self, key: &str, notes: &mut Notes<'_>) -> Option<Value> {
        let found = self.take(key)?;
        let path = self.path(key);
        match found.value {
            DeValue::Table(table) => Some(json::object(&path, table, notes)),
            other => self.wrong_type(key, &format!("a table, [{path}]"), &other, &found.at, notes),
        }
    }

    /// A table whose keys the operator chooses: each key is read by `K`'s own rules, which `hint`
    /// says, and each value by `read`.
    pub(crate) fn each<K: FromStr, T>(
        mut self,
        hint: &str,
        notes: &mut Notes<'_>,
        mut read: impl FnMut(&mut Section<'s>, &str, &mut Notes<'_>) -> Option<T>,
    ) -> Vec<(At<K>, T)>
    where
        K::Err: std::fmt::Display,
    {
        let written =
            |key: &Spanned<DeString<'s>>| At { value: key.get_ref().to_string(), at: key.span() };
        let keys: Vec<At<String>> = self.table.keys().map(written).collect();
        let mut all = Vec::new();
        for key in keys {
            let value = read(&mut self, &key.value, notes);
            let key = parse(&self.path(&key.value), key, hint, notes);
            all.extend(key.zip(value));
        }
        all
    }

    /// Every key that nobody asked for is a mistake.
    pub(crate) fn end(self, notes: &mut Notes<'_>) {
        for (key, _) in &self.table {
            let name = key.get_ref().as_ref();
            let place = match self.name.as_str() {
                "" => "at the top level".to_owned(),
                section => format!("in [{section}]"),
            };
            let hint = nearest(&self.asked, name)
                .unwrap_or_else(|| format!("known keys here: {}", self.asked.join(", ")));
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

/// Reads `text`, the value of `path`, by `T`'s own rules.
pub(crate) fn parse<T: FromStr>(
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

/// Asks whether one of `known` was meant that is almost the same.
pub(crate) fn nearest<T: AsRef<str>>(known: &[T], name: &str) -> Option<String> {
    let known = known.iter().map(AsRef::as_ref).min_by_key(|known| distance(known, name))?;
    (distance(known, name) <= 1 + name.len() / 4).then(|| format!("did you mean '{known}'?"))
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
