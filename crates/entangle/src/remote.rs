//! How client commands reach a node: endpoint, credentials, trust; and what its refusals mean to a user.

use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{Client, Credentials, Endpoint, Error, Options};

use crate::cli::RemoteArgs;
use crate::credentials;
use crate::exit::{Exit, Failure};
use crate::settings::Environment;

/// The keys folder of a node that runs with the defaults in this folder.
pub(crate) const DEFAULT_KEYS: &str = "entangle-data-keys";
/// How long most answers are waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:9000";

/// A client, and where its credentials came from.
pub(crate) struct Remote {
    pub(crate) client: Client,
    origin: Option<String>,
    ca_given: bool,
}

impl Remote {
    /// Flags, then `ENTANGLE_*`, then `AWS_*`, then the keys folder on this machine. Without any credentials the
    /// requests go unsigned: a public ledger can be read so.
    pub(crate) fn open(args: &RemoteArgs, environment: &Environment) -> Result<Self, Failure> {
        Self::open_for(args, environment, PATIENCE)
    }

    /// The same, for what may take so long.
    pub(crate) fn open_for(args: &RemoteArgs, environment: &Environment, patience: Duration) -> Result<Self, Failure> {
        let (origin, text) = match &args.endpoint {
            Some(text) => ("--endpoint", text.as_str()),
            None => environment
                .first(&["ENTANGLE_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
                .unwrap_or(("the default", DEFAULT_ENDPOINT)),
        };
        let endpoint: Endpoint = text.parse().map_err(|error| Failure::usage(format!("{origin}: {error}")))?;
        let found = find_credentials(args, environment)?;
        let mut options = Options::new(endpoint);
        options.timeout = patience;
        options.ca = args
            .ca
            .clone()
            .or_else(|| environment.first(&["ENTANGLE_CA", "AWS_CA_BUNDLE"]).map(|(_, path)| PathBuf::from(path)));
        if let Some((_, region)) = environment.first(&["ENTANGLE_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"]) {
            region.clone_into(&mut options.region);
        }
        let ca_given = options.ca.is_some();
        let (credentials, origin) = found.unzip();
        options.credentials = credentials;
        let client = Client::new(options).map_err(|error| {
            Failure::failed(format!("{error}; name a PEM file with the certificate of the node in --ca"))
        })?;
        Ok(Self { client, origin, ca_given })
    }

    /// What an error means to the user, and what to do.
    pub(crate) fn failure(&self, error: &Error) -> Failure {
        let endpoint = self.client.endpoint();
        match error {
            Error::Connect { source, .. } => Failure::new(
                Exit::Unavailable,
                format!(
                    "nothing answers at {endpoint} ({}); start a node with `entangle serve`, or name another one with --endpoint",
                    source
                ),
            ),
            Error::Tls { source, .. } => {
                let advice = if self.ca_given {
                    "check that --ca names the certificate that signed the node's, and that the host name is in it"
                } else {
                    "name the certificate to trust with --ca, or use http:// if the node speaks no TLS"
                };
                Failure::failed(format!("no secure connection to {endpoint} ({}); {advice}", source))
            }
            Error::TimedOut { .. } => {
                Failure::new(Exit::Unavailable, format!("{error}; try again, or see the node's log"))
            }
            Error::Http { .. } => Failure::new(
                Exit::Unavailable,
                format!("{error}; try again, and check that {endpoint} is the S3 port and whether it speaks HTTPS"),
            ),
            Error::Refused(refused) => self.refusal(refused),
            _ => Failure::failed(format!("{error}; check that {endpoint} is the S3 port of an Entangle node")),
        }
    }

    fn refusal(&self, refused: &client::Refused) -> Failure {
        let asked_by = match (&self.origin, self.client.endpoint()) {
            (Some(origin), _) => format!("the access key of {origin}"),
            (None, _) => "a request without an access key".to_owned(),
        };
        let advice = "set ENTANGLE_ACCESS_KEY and ENTANGLE_SECRET_KEY, or name the keys folder with --keys";
        let message = refused.message.trim_end_matches('.');
        match (refused.status, refused.code.as_str()) {
            (_, "InvalidAccessKeyId") => Failure::failed(format!("the node does not know {asked_by}; {advice}")),
            (_, "SignatureDoesNotMatch") => {
                Failure::failed(format!("the node refuses {asked_by}: its secret is another one; {advice}"))
            }
            (_, "RequestTimeTooSkewed") => {
                Failure::failed(format!("{message}; set the clock of this machine, or of the node, right"))
            }
            (401 | 403, _) if self.origin.is_none() => {
                Failure::failed(format!("the node asks for an access key; {advice}"))
            }
            (403, _) => Failure::failed(format!("the node refuses {asked_by} ({message}); {advice}")),
            (404, code) => Failure::new(Exit::NotFound, format!("{message} ({code}); check the name and the version")),
            (429 | 503, code) => Failure::new(Exit::Unavailable, format!("{message} ({code}); try again in a moment")),
            (_, code) => Failure::failed(format!("the node refuses: {message} ({code})")),
        }
    }
}

/// The access key to sign with, and where it came from.
pub(crate) fn find_credentials(
    args: &RemoteArgs,
    environment: &Environment,
) -> Result<Option<(Credentials, String)>, Failure> {
    if let (Some(access_key), Some(secret_key)) = (&args.access_key, &args.secret_key) {
        return Ok(Some((Credentials::new(access_key, secret_key.as_str()), "--access-key".to_owned())));
    }
    if let Some(keys) = &args.keys {
        let path = credentials::path_in(keys);
        let read = credentials::read(&path)?.ok_or_else(|| {
            Failure::usage(format!("{} does not exist; name the keys folder of the node with --keys", path.display()))
        })?;
        return Ok(Some((read, path.display().to_string())));
    }
    for (access, secret) in
        [("ENTANGLE_ACCESS_KEY", "ENTANGLE_SECRET_KEY"), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    {
        match (environment.get(access), environment.get(secret)) {
            (Some(access_key), Some(secret_key)) => {
                return Ok(Some((Credentials::new(access_key, secret_key), access.to_owned())));
            }
            (None, None) => {}
            (Some(_), None) => return Err(Failure::usage(format!("{access} is set, but {secret} is not; set both"))),
            (None, Some(_)) => return Err(Failure::usage(format!("{secret} is set, but {access} is not; set both"))),
        }
    }
    let path = credentials::path_in(Path::new(environment.get("ENTANGLE_KEYS").unwrap_or(DEFAULT_KEYS)));
    Ok(credentials::read(&path)?.map(|read| (read, path.display().to_string())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().map(|(name, value)| (name.into(), value.into()))).unwrap()
    }

    #[test]
    fn flags_over_entangle_over_aws_over_the_keys_folder() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().display().to_string();
        credentials::write(&credentials::path_in(folder.path()), &Credentials::new("of-the-folder", "secret-folder"))
            .unwrap();
        let aws = [("AWS_ACCESS_KEY_ID", "of-aws"), ("AWS_SECRET_ACCESS_KEY", "s"), ("ENTANGLE_KEYS", &keys)];
        let ours = [("ENTANGLE_ACCESS_KEY", "of-entangle"), ("ENTANGLE_SECRET_KEY", "s")];
        let both: Vec<_> = aws.into_iter().chain(ours).collect();
        let flags =
            RemoteArgs { access_key: Some("of-flags".into()), secret_key: Some("s".into()), ..RemoteArgs::default() };
        let named = RemoteArgs { keys: Some(folder.path().to_owned()), ..RemoteArgs::default() };
        for (args, variables, expected) in [
            (&flags, &both[..], "of-flags"),
            (&named, &both[..], "of-the-folder"),
            (&RemoteArgs::default(), &both[..], "of-entangle"),
            (&RemoteArgs::default(), &aws[..], "of-aws"),
            (&RemoteArgs::default(), &aws[2..], "of-the-folder"),
        ] {
            let (found, _) = find_credentials(args, &environment(variables)).unwrap().unwrap();
            assert_eq!(found.access_key(), expected);
        }
    }

    #[test]
    fn half_a_pair_is_refused() {
        let half = environment(&[("AWS_ACCESS_KEY_ID", "x")]);
        let refused = find_credentials(&RemoteArgs::default(), &half).unwrap_err();
        assert!(refused.sentence.contains("AWS_SECRET_ACCESS_KEY is not; set both"), "{refused}");
    }

    #[test]
    fn a_bad_endpoint_names_its_origin() {
        let found = environment(&[("AWS_ENDPOINT_URL", "localhost:9000")]);
        let refused = Remote::open(&RemoteArgs::default(), &found).err().unwrap();
        assert_eq!(refused.exit, Exit::Usage);
        assert!(refused.sentence.starts_with("AWS_ENDPOINT_URL: \"localhost:9000\" is no endpoint"), "{refused}");
    }
}
