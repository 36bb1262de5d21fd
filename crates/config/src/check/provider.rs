//! Providers that do not fit together.

use crate::file::Provider;
use crate::mistake::Notes;

pub(crate) fn check(providers: &[Provider], notes: &mut Notes<'_>) {
    for (place, provider) in providers.iter().enumerate() {
        let name = &provider.name;
        if providers[..place].iter().any(|other| other.name.value == name.value) {
            let message = format!("two providers are called '{}'", name.value);
            notes.add(&name.at, message, "give each a name of its own, or put their mx together");
        }
        if provider.mx.is_empty() && provider.domains.is_empty() {
            let message = format!("nothing leads to the provider '{}'", name.value);
            let hint = "mx = [\"*.mx.example.net\"] or domains = [\"example.net\"]";
            notes.add(&name.at, message, hint);
        }
        if let (Some(first), Some(most)) = (&provider.first_connections, provider.connections)
            && first.value > most
        {
            let message = "'provider.first-connections' is more than 'provider.connections'";
            notes.add(&first.at, message, "it opens with the first and grows up to the second");
        }
    }
}
