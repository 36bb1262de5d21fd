//! TOML that this program does not understand, as JSON for those who do.

use std::ops::Range;

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use crate::mistake::Notes;

/// A table as an object. What JSON has no words for is noted and left out.
pub(crate) fn object(path: &str, table: DeTable<'_>, notes: &mut Notes<'_>) -> Value {
    let mut object = Map::new();
    for (key, value) in table {
        let key = key.into_inner().into_owned();
        let at = value.span();
        let value = json(&format!("{path}.{key}"), value.into_inner(), &at, notes);
        object.extend(value.map(|value| (key, value)));
    }
    Value::Object(object)
}

fn json(path: &str, value: DeValue<'_>, at: &Range<usize>, notes: &mut Notes<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(Value::String(text.into_owned())),
        DeValue::Boolean(value) => Some(Value::Bool(value)),
        DeValue::Datetime(moment) => Some(Value::String(moment.to_string())),
        DeValue::Table(table) => Some(object(path, table, notes)),
        DeValue::Array(items) => {
            let mut array = Vec::new();
            for item in items {
                let at = item.span();
                array.extend(json(path, item.into_inner(), &at, notes));
            }
            Some(Value::Array(array))
        }
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
            number_of(path, number.map(Number::from), at, notes)
        }
        DeValue::Float(float) => {
            let number = float.as_str().parse().ok().and_then(Number::from_f64);
            number_of(path, number, at, notes)
        }
    }
}

fn number_of(
    path: &str,
    number: Option<Number>,
    at: &Range<usize>,
    notes: &mut Notes<'_>,
) -> Option<Value> {
    if number.is_none() {
        let hint = "use numbers of 64 bits, and no inf or nan, which JSON does not have";
        notes.add(at, format!("'{path}' has a number that cannot be handed over"), hint);
    }
    number.map(Value::Number)
}
