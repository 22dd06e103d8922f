//! The members of the group: who they are, and changes of them.

use http::StatusCode;
use node::{Change, ChangeError};
use s3s::{Body, S3Request, S3Response, S3Result, s3_error};
use serde::{Deserialize, Serialize};
use types::ReplicaId;

use super::{NativeRoutes, document, json};
use crate::context::RequestContext;
use crate::error;

/// A change that is asked for. Nodes are named by their number or by what they are called.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Wanted {
    Add(String),
    Remove(String),
    Replace([String; 2]),
    Faults(u32),
    Upgrade(bool),
}

#[derive(Serialize)]
struct Members {
    epoch: u32,
    faults: u32,
    logic: u32,
    members: Vec<u32>,
    nodes: Vec<ListedNode>,
}

/// A node of the cluster's directory.
#[derive(Serialize)]
struct ListedNode {
    replica: u32,
    name: String,
    region: String,
    mesh: String,
    member: bool,
}

impl NativeRoutes {
    pub(super) fn list_members(&self) -> S3Result<S3Response<Body>> {
        let node = &self.frontend.node;
        let membership = node.membership();
        let rows = node.nodes().map_err(|error| error::read(&error))?;
        let nodes = rows
            .into_iter()
            .map(|row| ListedNode {
                replica: row.node.member.replica.0,
                name: row.node.label,
                region: row.node.region,
                mesh: row.node.mesh,
                member: membership.has(row.node.member.replica),
            })
            .collect();
        let members = membership.members.iter().map(|member| member.0).collect();
        let (epoch, faults, logic) = (membership.epoch.0, membership.f, membership.logic);
        json(StatusCode::OK, &Members { epoch, faults, logic, members, nodes })
    }

    pub(super) async fn change_members(
        &self,
        context: &RequestContext,
        mut request: S3Request<Body>,
    ) -> S3Result<S3Response<Body>> {
        let wanted: Wanted = document(context, &mut request, "change of members").await?;
        let change = match wanted {
            Wanted::Add(node) => Change::Add(self.node_named(&node)?),
            Wanted::Remove(node) => Change::Remove(self.node_named(&node)?),
            Wanted::Replace([old, new]) => Change::Replace(self.node_named(&old)?, self.node_named(&new)?),
            Wanted::Faults(faults) => Change::Faults(faults),
            Wanted::Upgrade(true) => Change::Upgrade,
            Wanted::Upgrade(false) => return self.list_members(),
        };
        self.frontend.node.change(change).await.map_err(|error| refused(&error))?;
        self.list_members()
    }

    pub(super) fn node_named(&self, name: &str) -> S3Result<ReplicaId> {
        if let Ok(number) = name.parse() {
            return Ok(ReplicaId(number));
        }
        let rows = self.frontend.node.nodes().map_err(|error| error::read(&error))?;
        let mut named = rows.iter().filter(|row| row.node.label == name).map(|row| row.node.member.replica);
        match (named.next(), named.next()) {
            (Some(node), None) => Ok(node),
            (Some(_), Some(_)) => Err(s3_error!(
                InvalidArgument,
                "Several nodes are called {name}: give the number of the one that is meant."
            )),
            (None, _) => Err(error::custom(
                "NoSuchNode",
                StatusCode::NOT_FOUND,
                "The directory of the cluster names no such node; `entangle cluster nodes` lists them.",
            )),
        }
    }
}

pub(super) fn refused(reason: &ChangeError) -> s3s::S3Error {
    match reason {
        ChangeError::Refused(reason) => error::write(reason),
        ChangeError::Read(reason) => error::read(reason),
        other => {
            error::custom("MembersNotChanged", StatusCode::CONFLICT, format!("The members were not changed: {other}."))
        }
    }
}
