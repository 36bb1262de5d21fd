//! Reads selectors. Mistakes are told with the column they begin at.
//!
//! ```text
//! selector = all *( "or" all )
//! all      = one *( ["and"] one )
//! one      = ("not" | "!") one | "(" selector ")" | key operator value *( "," value ) | id *( "," id )
//! operator = ":" | "=" | "!=" | ">" | ">=" | "<" | "<="
//! ```

use waypost_mail::MessageId;

use super::{Bounds, Field, MAX_SELECTOR, Pattern, RecipientStanding, Selector, Term, Test};

/// Brackets and negations within one another.
const MAX_DEPTH: usize = 32;

/// What is wrong with a selector, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct SelectorError {
    /// Which character, counted from 1.
    pub column: usize,
    /// What is wrong there and what to write.
    pub message: String,
}

impl SelectorError {
    /// The selector with a mark under the mistake, and what it is.
    pub fn pointed(&self, text: &str) -> String {
        format!("{text}\n{}^ {}", " ".repeat(self.column - 1), self.message)
    }
}

/// The names of all keys.
pub(super) fn known_keys() -> String {
    Field::ALL.map(Field::name).join(", ")
}

pub(super) fn parse(text: &str) -> Result<Selector, SelectorError> {
    if text.len() > MAX_SELECTOR {
        let message = format!("a selector has at most {MAX_SELECTOR} octets");
        return Err(SelectorError { column: 1, message });
    }
    let mut reader = Reader { text, at: 0, depth: 0 };
    reader.spaces();
    if reader.rest().is_empty() {
        return Ok(Selector::default());
    }
    let test = reader.any()?;
    match reader.rest().chars().next() {
        None => Ok(Selector { test: Some(test) }),
        Some(')') => Err(reader.mistake(reader.at, "this bracket was never opened")),
        Some(_) => Err(reader.mistake(reader.at, "nothing more can follow here")),
    }
}

struct Reader<'t> {
    text: &'t str,
    /// Octets read.
    at: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn any(&mut self) -> Result<Test, SelectorError> {
        let mut tests = vec![self.all()?];
        while self.word("or") {
            tests.push(self.all()?);
        }
        Ok(joined(tests, Test::Any))
    }

    fn all(&mut self) -> Result<Test, SelectorError> {
        let mut tests = vec![self.one()?];
        loop {
            let joined_by_word = self.word("and");
            let ends = self.rest().is_empty() || self.rest().starts_with(')') || self.sees("or");
            if ends && !joined_by_word {
                return Ok(joined(tests, Test::All));
            }
            tests.push(self.one()?);
        }
    }

    fn one(&mut self) -> Result<Test, SelectorError> {
        let began = self.at;
        if self.word("not") || self.sign('!') {
            return self.nested(began, |reader| Ok(Test::Not(Box::new(reader.one()?))));
        }
        if self.sign('(') {
            return self.nested(began, |reader| {
                let test = reader.any()?;
                let closed = reader.sign(')');
                if closed {
                    Ok(test)
                } else {
                    Err(reader.mistake(began, "this bracket is not closed"))
                }
            });
        }
        self.term()
    }

    fn nested(
        &mut self,
        began: usize,
        read: impl FnOnce(&mut Self) -> Result<Test, SelectorError>,
    ) -> Result<Test, SelectorError> {
        if self.depth == MAX_DEPTH {
            return Err(self.mistake(began, "there are too many brackets within one another"));
        }
        self.depth += 1;
        let test = read(self)?;
        self.depth -= 1;
        Ok(test)
    }

    fn term(&mut self) -> Result<Test, SelectorError> {
        let began = self.at;
        let is_key = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let rest = self.rest();
        let key = &rest[..rest.find(|c| !is_key(c)).unwrap_or(rest.len())];
        let after = &rest[key.len()..];
        let Some((operator, negated)) = operator(after) else { return self.bare_ids() };
        let Some(field) = Field::ALL.into_iter().find(|field| field.name() == key) else {
            return Err(self.mistake(began, &unknown_key(key)));
        };
        self.at += key.len() + operator.len();
        let value_at = self.at;
        let values = self.values()?;
        let term = term(field, operator, &values).map_err(|(at, message)| {
            let at = values.get(at).map_or(value_at, |value| value.at);
            self.mistake(at, &message)
        })?;
        self.spaces();
        let test = Test::Is(term);
        Ok(if negated { Test::Not(Box::new(test)) } else { test })
    }

    /// Ids may stand alone.
    fn bare_ids(&mut self) -> Result<Test, SelectorError> {
        let began = self.at;
        if self.rest().is_empty() || self.rest().starts_with(')') {
            return Err(
                self.mistake(began, "a condition is missing here, such as domain:example.net")
            );
        }
        let values = self.values()?;
        let parsed: Option<Vec<MessageId>> =
            values.iter().map(|value| value.text.parse().ok()).collect();
        self.spaces();
        parsed.map(|ids| Test::Is(Term::Id(ids))).ok_or_else(|| {
            let message =
                format!("this is neither a message id nor key:value; keys: {}", known_keys());
            self.mistake(began, &message)
        })
    }

    /// The values of a term, divided by commas.
    fn values(&mut self) -> Result<Vec<Value>, SelectorError> {
        let mut values = Vec::new();
        loop {
            let at = self.at;
            let text = if self.rest().starts_with('"') { self.quoted()? } else { self.plain() };
            values.push(Value { at, text });
            if !self.rest().starts_with(',') {
                return Ok(values);
            }
            self.at += 1;
        }
    }

    fn plain(&mut self) -> String {
        let rest = self.rest();
        let ends = |c: char| c.is_whitespace() || ",()\"".contains(c);
        let text = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += text.len();
        text.to_owned()
    }

    fn quoted(&mut self) -> Result<String, SelectorError> {
        let began = self.at;
        let mut text = String::new();
        let mut escaped = false;
        for (place, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => {
                    text.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.at = began + place + 1;
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err(self.mistake(began, "this quotation mark is not closed"))
    }

    /// Takes a word of the language, if it is next and stands alone.
    fn word(&mut self, word: &str) -> bool {
        let found = self.sees(word);
        if found {
            self.at += word.len();
            self.spaces();
        }
        found
    }

    fn sees(&self, word: &str) -> bool {
        let rest = self.rest();
        let front = rest.get(..word.len()).is_some_and(|front| front.eq_ignore_ascii_case(word));
        let alone = |after: &str| {
            after.chars().next().is_none_or(|c| c.is_whitespace() || "()!".contains(c))
        };
        front && alone(&rest[word.len()..])
    }

    fn sign(&mut self, sign: char) -> bool {
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len_utf8();
            self.spaces();
        }
        found
    }

    fn spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn mistake(&self, at: usize, message: &str) -> SelectorError {
        let column = 1 + self.text[..at].chars().count();
        SelectorError { column, message: message.to_owned() }
    }
}

#[derive(Debug)]
struct Value {
    at: usize,
    text: String,
}

fn joined(mut tests: Vec<Test>, join: fn(Vec<Test>) -> Test) -> Test {
    match tests.pop() {
        Some(only) if tests.is_empty() => only,
        Some(last) => {
            tests.push(last);
            join(tests)
        }
        None => join(tests),
    }
}

/// The operator at the beginning, as it is without a negation, and whether it has one.
fn operator(text: &str) -> Option<(&'static str, bool)> {
    let known = ["!=", ">=", "<=", ":", "=", ">", "<"];
    let operator = known.into_iter().find(|operator| text.starts_with(operator))?;
    Some((operator, operator == "!="))
}

fn unknown_key(key: &str) -> String {
    let near = |field: &Field| {
        let name = field.name();
        !key.is_empty()
            && (name.starts_with(key) || (key.starts_with(name) && key.len() <= name.len() + 2))
    };
    match Field::ALL.iter().find(|field| near(field)) {
        Some(field) => format!("unknown key '{key}': did you mean '{field}'?"),
        None => format!("unknown key '{key}'; keys: {}", known_keys()),
    }
}

/// What a key must be. A mistake comes with the place of the value it is in.
fn term(field: Field, operator: &str, values: &[Value]) -> Result<Term, (usize, String)> {
    let texts = || values.iter().enumerate().map(|(place, value)| (place, value.text.as_str()));
    if let Some((place, _)) = texts().find(|(_, text)| text.is_empty())
        && !matches!(field, Field::Sender | Field::User | Field::Tenant | Field::Tag)
    {
        return Err((place, format!("'{field}' needs a value here")));
    }
    let ordered = matches!(operator, ">" | ">=" | "<" | "<=");
    match field {
        Field::Age | Field::Size | Field::Attempts => number(field, operator, values),
        _ if ordered => Err((0, format!("'{field}' has no order: write {field}:VALUE"))),
        Field::Id => {
            let id = |(place, text): (usize, &str)| {
                text.parse().map_err(|error| (place, format!("'{text}' is no message id: {error}")))
            };
            texts().map(id).collect::<Result<_, _>>().map(Term::Id)
        }
        Field::State => {
            let state = |(place, text): (usize, &str)| {
                let known = RecipientStanding::ALL.into_iter().find(|state| state.name() == text);
                known.ok_or_else(|| {
                    (place, format!("'{text}' is no state: waiting, held, in-flight or done"))
                })
            };
            texts().map(state).collect::<Result<_, _>>().map(Term::State)
        }
        _ => Ok(Term::Text(field, texts().map(|(_, text)| Pattern::new(text)).collect())),
    }
}

fn number(field: Field, operator: &str, values: &[Value]) -> Result<Term, (usize, String)> {
    let [value] = values else {
        return Err((1, format!("'{field}' takes one value, or a range such as {}", range(field))));
    };
    let text = value.text.as_str();
    let read = |text: &str| {
        let number = if field == Field::Age { milliseconds(text) } else { count(field, text) };
        number.ok_or_else(|| (0, format!("'{text}' is no {field}: write {}", range(field))))
    };
    let bounds = match (operator, text.split_once("..")) {
        (">", _) => Bounds { least: read(text)?.saturating_add(1), ..Bounds::ANY },
        (">=", _) => Bounds { least: read(text)?, ..Bounds::ANY },
        ("<", _) => match read(text)?.checked_sub(1) {
            Some(most) => Bounds { most, ..Bounds::ANY },
            None => return Err((0, format!("no {field} is less than nothing"))),
        },
        ("<=", _) => Bounds { most: read(text)?, ..Bounds::ANY },
        (_, Some((least, most))) => Bounds {
            least: if least.is_empty() { 0 } else { read(least)? },
            most: if most.is_empty() { u64::MAX } else { read(most)? },
        },
        (_, None) if field == Field::Age => {
            let message = "no age is exact: write age>2h, age<2h or age:2h..5h";
            return Err((0, message.to_owned()));
        }
        (_, None) => {
            let exact = read(text)?;
            Bounds { least: exact, most: exact }
        }
    };
    Ok(Term::Number(field, bounds))
}

fn range(field: Field) -> &'static str {
    match field {
        Field::Age => "a number and a unit, 90s, 5m, 2h, 3d, or a range, age:2h..5h",
        Field::Size => "a number with or without a unit, 64KiB, 5MB, or a range, size:1MiB..5MiB",
        _ => "a number, 3, or a range, attempts:2..5",
    }
}

/// `90s`, `1h30m`, `5d`, `250ms`.
fn milliseconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(number.checked_mul(unit)?)?;
    }
    (!text.is_empty()).then_some(total)
}

fn count(field: Field, text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match (&text[digits..], field) {
        ("", _) | ("B", Field::Size) => 1,
        ("KiB", Field::Size) => 1 << 10,
        ("MiB", Field::Size) => 1 << 20,
        ("GiB", Field::Size) => 1 << 30,
        ("kB" | "KB", Field::Size) => 1000,
        ("MB", Field::Size) => 1_000_000,
        ("GB", Field::Size) => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}
