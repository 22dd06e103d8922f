//! Catching up before a read, in a group of more than one. Under a lease nothing is missing but what is pending here; without
//! one, a majority is asked what is under way in the slots of the read, and the read waits until that is executed here.

use std::sync::atomic::Ordering;

use dace::Zone;
use tokio::sync::oneshot;
use types::{Slot, SlotSet};

use super::leased::Look;
use crate::engine::inbox::Rejected;
use crate::engine::{Reading, Submitted};
use crate::error::WriteError;
use crate::node::Shared;
use crate::replica::overlay::View;

pub(crate) async fn catch_up(shared: &Shared, bucket: &str, key: &str) -> Result<(), WriteError> {
    // What a bucket is, is in every zone.
    one(shared, Slot::of(bucket, key), |zone| key.is_empty() || catalog::zone::holds_key(zone, bucket, key)).await
}

pub(crate) async fn catch_up_shared(shared: &Shared) -> Result<(), WriteError> {
    // Any slot will do: what is shared is of all.
    one(shared, Slot(0), |_| true).await
}

async fn one(shared: &Shared, slot: Slot, holds: impl Fn(&[u8]) -> bool) -> Result<(), WriteError> {
    shared.running()?;
    if shared.is_alone.load(Ordering::Relaxed) {
        return Ok(());
    }
    let zone = match shared.leased.look(slot, holds) {
        Look::Ready => {
            shared.metrics.read(true);
            return Ok(());
        }
        Look::Pending(zone) => Some(zone),
        Look::Unleased => None,
    };
    ask(shared, SlotSet::of(vec![slot]), zone, false).await.map(drop)
}

pub(crate) async fn view(shared: &Shared, bucket: Option<&str>) -> Result<View, WriteError> {
    if shared.is_alone.load(Ordering::Relaxed) {
        shared.running()?;
        return Ok(shared.view());
    }
    let holds = |zone: &[u8]| bucket.is_none_or(|bucket| catalog::zone::holds_bucket(zone, bucket));
    let view = ask(shared, SlotSet::All, shared.leased.held(holds), true).await?;
    view.ok_or_else(|| WriteError::Failed("a read got no view".to_owned()))
}

async fn ask(shared: &Shared, slots: SlotSet, zone: Option<Zone>, whole: bool) -> Result<Option<View>, WriteError> {
    // Who holds a lease needs nobody.
    if zone.is_some() { shared.running() } else { shared.ready() }?;
    let (answer, answered) = oneshot::channel();
    let reading = Reading { slots, zone, whole, contended: 0, since_ns: crate::clock::now().mono_ns, answer };
    match shared.inbox.submit(Submitted::Read(reading)) {
        Ok(()) => {}
        Err(Rejected::Full) => return Err(WriteError::SlowDown("its queue of commands is full")),
        Err(Rejected::Closed) => return Err(shared.running().err().unwrap_or(WriteError::Stopping)),
    }
    match tokio::time::timeout(shared.config.write_timeout, answered).await {
        Ok(Ok(answer)) => answer,
        // The loop dropped the sender: it ended before it could answer.
        Ok(Err(_)) => Err(shared.running().err().unwrap_or(WriteError::Stopping)),
        Err(_) => Err(WriteError::NotReady("no majority of the members answered in time".to_owned())),
    }
}
