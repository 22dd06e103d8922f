//! Zones: who holds their leases, and where their writes are at home.

use http::StatusCode;
use s3s::{Body, S3Request, S3Response, S3Result};
use serde::{Deserialize, Serialize};
use types::command::{Holders, PutZone};
use types::{Outcome, ReplicaId};

use super::keys::principal;
use super::members::refused;
use super::{NativeRoutes, document, json};
use crate::context::RequestContext;
use crate::error;

/// What is to be said of a zone. Nodes are named by their number or by what they are called.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    zone: String,
    #[serde(default)]
    leases: Leases,
    #[serde(default)]
    home: Option<String>,
}

/// Who holds the lease of a zone.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Leases {
    #[default]
    Nobody,
    Everyone,
    #[serde(untagged)]
    These(Vec<String>),
}

#[derive(Serialize)]
struct ListedZone {
    zone: String,
    leases: Leases,
    home: Option<String>,
    /// Whether the node that answers holds the lease now.
    held: bool,
}

#[derive(Serialize)]
struct Zones {
    zones: Vec<ListedZone>,
}

impl NativeRoutes {
    pub(super) fn list_zones(&self) -> S3Result<S3Response<Body>> {
        let node = &self.frontend.node;
        let rows = node.nodes().map_err(|error| error::read(&error))?;
        let name = |replica: ReplicaId| {
            let row = rows.iter().find(|row| row.node.member.replica == replica);
            row.map_or_else(|| replica.0.to_string(), |row| row.node.label.clone())
        };
        let zones = node.zones().map_err(|error| error::read(&error))?;
        let zones = zones.into_iter().map(|state| ListedZone {
            leases: match state.zone.holders {
                Holders::Nobody => Leases::Nobody,
                Holders::Everyone => Leases::Everyone,
                Holders::These(these) => Leases::These(these.into_iter().map(name).collect()),
            },
            home: state.zone.home.map(name),
            held: state.is_held,
            zone: state.zone.zone,
        });
        json(StatusCode::OK, &Zones { zones: zones.collect() })
    }

    pub(super) async fn put_zone(
        &self,
        context: &RequestContext,
        mut request: S3Request<Body>,
    ) -> S3Result<S3Response<Body>> {
        let wanted: Wanted = document(context, &mut request, "policy of a zone").await?;
        let holders = match wanted.leases {
            Leases::Nobody => Holders::Nobody,
            Leases::Everyone => Holders::Everyone,
            Leases::These(names) => {
                let mut these = names.iter().map(|name| self.node_named(name)).collect::<S3Result<Vec<_>>>()?;
                these.sort_unstable();
                these.dedup();
                Holders::These(these)
            }
        };
        let home = wanted.home.map(|home| self.node_named(&home)).transpose()?;
        let zone = PutZone { zone: wanted.zone, holders, home };
        let put = self.frontend.node.put_zone(principal(&request), zone).await;
        match put.map_err(|error| refused(&error))? {
            Outcome::Refused(refusal) => Err(error::refusal(&refusal)),
            _ => self.list_zones(),
        }
    }
}
