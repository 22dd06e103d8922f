//! Catching up before a read, in a group of more than one: a majority is asked what is under way in the slots of the
//! read, and the read waits until that is executed here.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use types::SlotSet;

use crate::engine::inbox::Rejected;
use crate::engine::{Reading, Submitted};
use crate::error::WriteError;
use crate::node::Shared;
use crate::replica::overlay::View;

pub(crate) async fn catch_up(shared: &Shared, slots: SlotSet) -> Result<(), WriteError> {
    if shared.is_alone.load(Ordering::Relaxed) {
        return shared.running();
    }
    ask(shared, slots, false).await.map(drop)
}

pub(crate) async fn view(shared: &Shared) -> Result<View, WriteError> {
    if shared.is_alone.load(Ordering::Relaxed) {
        shared.running()?;
        return Ok(shared.view());
    }
    let view = ask(shared, SlotSet::All, true).await?;
    view.ok_or_else(|| WriteError::Failed("a read got no view".to_owned()))
}

async fn ask(shared: &Shared, slots: SlotSet, whole: bool) -> Result<Option<View>, WriteError> {
    shared.ready()?;
    let (answer, answered) = oneshot::channel();
    let reading = Reading { slots, whole, contended: 0, since_ns: crate::clock::now().mono_ns, answer };
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
