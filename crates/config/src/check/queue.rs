//! Classes of mail that do not fit together.

use std::time::Duration;

use waypost_queue::{Class, DEFAULT_CLASS, Field, MAX_CLASSES};

use crate::file::{Curve, Queue};
use crate::mistake::Notes;

pub(super) fn check(queue: &Queue, notes: &mut Notes<'_>) {
    curve("queue", &queue.retry, notes);
    for (place, class) in queue.classes.iter().enumerate() {
        let name = &class.name;
        if queue.classes[..place].iter().any(|other| other.name.value == name.value) {
            let message = format!("two queue classes are called '{}'", name.value);
            notes.add(&name.at, message, "give each a name of its own");
        }
        if place == MAX_CLASSES {
            let message = format!("there are more than {MAX_CLASSES} queue classes");
            notes.add(
                &name.at,
                message,
                "one class may be for many kinds of mail: match = \"… or …\"",
            );
        }
        if let Some(matches) = &class.matches {
            if name.value == DEFAULT_CLASS {
                let hint = "remove match: it is for all mail that no other class is for";
                notes.add(&matches.at, "the default class cannot choose its mail", hint);
            }
            for field in matches.value.fields().into_iter().filter(|field| !Class::may_ask(*field))
            {
                let known = Field::ALL.into_iter().filter(|field| Class::may_ask(*field));
                let known: Vec<&str> = known.map(Field::name).collect();
                let message = format!("a queue class cannot go by '{field}'");
                notes.add(&matches.at, message, &format!("it can go by {}", known.join(", ")));
            }
        }
        curve("queue.class", &class.retry, notes);
    }
}

fn curve(section: &str, curve: &Curve, notes: &mut Notes<'_>) {
    if let (Some(first), Some(max)) = (&curve.first, &curve.max)
        && first.value > max.value
    {
        let message = format!("'{section}.max-retry' is shorter than '{section}.first-retry'");
        notes.add(&max.at, message, "");
    }
    let Some(steps) = &curve.steps else { return };
    if steps.value.is_empty() || steps.value.iter().any(Duration::is_zero) {
        let message = format!("'{section}.retries' needs waits longer than nothing");
        notes.add(
            &steps.at,
            message,
            "retries = [\"5m\", \"15m\", \"1h\"], the last again and again",
        );
    }
    let grown = [
        curve.first.as_ref().map(|first| (&first.at, "first-retry")),
        curve.max.as_ref().map(|max| (&max.at, "max-retry")),
        curve.factor.as_ref().map(|factor| (&factor.at, "retry-factor")),
    ];
    for (at, key) in grown.into_iter().flatten() {
        let message = format!("'{section}.{key}' has no meaning beside '{section}.retries'");
        notes.add(at, message, "the list says every wait: remove one of them");
    }
}
