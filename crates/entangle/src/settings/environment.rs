//! The environment: every `ENTANGLE_*` variable is known, or refused by name.

use std::collections::BTreeMap;

use super::{TABLE, nearest};
use crate::exit::Failure;

/// Variables beside those of the settings table.
const OTHERS: &[&str] = &[
    "ENTANGLE_CONFIG",
    "ENTANGLE_ACCESS_KEY",
    "ENTANGLE_SECRET_KEY",
    "ENTANGLE_ENDPOINT",
    "ENTANGLE_CA",
    "ENTANGLE_POLICY",
    "ENTANGLE_FLUSH_DELAY_MS",
    "ENTANGLE_BENCH_LEDGER",
    #[cfg(feature = "faults")]
    "ENTANGLE_FAULTS",
];

/// What other tools' variables are read as a fallback.
const FOREIGN: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_CA_BUNDLE",
];

/// The variables that matter, as they were when the program started. An empty one counts as not set.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// Takes what concerns us and refuses an `ENTANGLE_*` that nobody knows.
    pub(crate) fn new(
        variables: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    ) -> Result<Self, Failure> {
        let mut known = BTreeMap::new();
        for (name, value) in variables {
            let Ok(name) = name.into_string() else { continue };
            if !name.starts_with("ENTANGLE_") && !FOREIGN.contains(&name.as_str()) {
                continue;
            }
            if name.starts_with("ENTANGLE_") && !is_known(&name) {
                if is_service_link(&name) {
                    continue;
                }
                return Err(unknown(&name));
            }
            // The value may be a secret: it is not shown.
            let value = value
                .into_string()
                .map_err(|_| Failure::usage(format!("{name} holds bytes that are not UTF-8; set it again")))?;
            if !value.is_empty() {
                known.insert(name, value);
            }
        }
        Ok(Self { variables: known })
    }

    /// The value of a variable, if it is set to something.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The first of these that is set, with its name.
    pub(crate) fn first<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &str)> {
        names.iter().find_map(|name| self.get(name).map(|value| (*name, value)))
    }
}

fn is_known(name: &str) -> bool {
    OTHERS.contains(&name) || TABLE.iter().any(|row| row.variable == name)
}

fn unknown(name: &str) -> Failure {
    let names = TABLE.iter().map(|row| row.variable).chain(OTHERS.iter().copied());
    let advice = match nearest(name, names) {
        Some(meant) => format!("did you mean {meant}? Otherwise unset it"),
        None => "unset it, or see the settings in `entangle serve --help`".to_owned(),
    };
    Failure::usage(format!("the environment variable {name} is unknown; {advice}"))
}

/// Kubernetes sets `<SERVICE>_SERVICE_HOST`, `<SERVICE>_PORT_9000_TCP_ADDR` and their like in every pod of a
/// namespace: a service called `entangle` or `entangle-…` must not keep its own pods from starting.
fn is_service_link(name: &str) -> bool {
    let has_number_and_protocol = |rest: &str| {
        let mut parts = rest.split('_');
        let number = parts.next().is_some_and(|part| part.parse::<u16>().is_ok());
        let protocol = matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"));
        let last = matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"));
        number && protocol && last && parts.next().is_none()
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.rsplit_once("_PORT_").is_some_and(|(_, rest)| has_number_and_protocol(rest))
        || name.match_indices("_PORT_").any(|(index, link)| has_number_and_protocol(&name[index + link.len()..]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Result<Environment, Failure> {
        Environment::new(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn takes_what_it_knows_and_leaves_others_alone() {
        let found =
            environment(&[("ENTANGLE_S3", "x:1"), ("HOME", "/root"), ("AWS_REGION", "r"), ("ENTANGLE_KEYS", "")]);
        let found = found.unwrap();
        assert_eq!(found.get("ENTANGLE_S3"), Some("x:1"));
        assert_eq!(found.get("HOME"), None);
        assert_eq!(found.get("ENTANGLE_KEYS"), None, "empty counts as not set");
        assert_eq!(found.first(&["AWS_ENDPOINT_URL", "AWS_REGION"]), Some(("AWS_REGION", "r")));
    }

    #[test]
    fn refuses_a_typing_mistake_by_name_without_its_value() {
        let refused = environment(&[("ENTANGLE_SECRET_KEYY", "hush-hush")]).err().unwrap();
        assert!(refused.sentence.contains("ENTANGLE_SECRET_KEYY is unknown"), "{refused}");
        assert!(refused.sentence.contains("did you mean ENTANGLE_SECRET_KEY?"), "{refused}");
        assert!(!refused.sentence.contains("hush-hush"), "{refused}");
    }

    #[test]
    fn service_links_of_kubernetes_are_no_mistakes() {
        for name in [
            "ENTANGLE_SERVICE_HOST",
            "ENTANGLE_SERVICE_PORT",
            "ENTANGLE_SERVICE_PORT_S3",
            "ENTANGLE_PORT",
            "ENTANGLE_PORT_9000_TCP",
            "ENTANGLE_PORT_9000_TCP_PROTO",
            "ENTANGLE_S3_PORT_9000_TCP_ADDR",
            "ENTANGLE_S3_SERVICE_HOST",
        ] {
            assert!(environment(&[(name, "tcp://10.0.0.1:9000")]).is_ok(), "{name}");
        }
        for name in ["ENTANGLE_PORT_9000", "ENTANGLE_PORT_X_TCP", "ENTANGLE_HOST", "ENTANGLE_PORTS"] {
            assert!(environment(&[(name, "x")]).is_err(), "{name}");
        }
    }
}
