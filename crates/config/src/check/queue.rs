//! Classes of mail that do not fit together.

use waypost_queue::{Class, DEFAULT_CLASS, Field, MAX_CLASSES};

use crate::file::Queue;
use crate::mistake::Notes;

pub(super) fn check(queue: &Queue, notes: &mut Notes<'_>) {
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
        if let (Some(first), Some(max)) = (class.first_retry, &class.max_retry)
            && first > max.value
        {
            notes.add(
                &max.at,
                "'queue.class.max-retry' is shorter than 'queue.class.first-retry'",
                "",
            );
        }
    }
}
