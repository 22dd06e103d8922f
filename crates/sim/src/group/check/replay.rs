//! Outcomes and reads against the plain model, which executes in `(timestamp, id)` order: any interleaving
//! that respects slots must give the same.

use std::collections::BTreeMap;

use types::{OrderKey, Slot};

use super::history::{Answer, Ask, History, Read};
use super::order::Order;
use super::{Checked, ensure, violation};
use crate::group::state::Place;
use crate::model::Model;

/// What is to be looked at once a place has been executed: a read, and the key that it saw then.
type Looks<'a> = BTreeMap<Option<Place>, Vec<(usize, &'a str, &'a str)>>;

/// Executes everything again, and looks up what reads must have seen.
pub(crate) fn replay(order: &Order, history: &History) -> Checked {
    let keys = keys(history);
    let mut looks = Looks::new();
    for (index, operation) in history.operations.iter().enumerate() {
        if let Some(read) = &operation.read {
            plan(&mut looks, order, &keys, index, &operation.ask, read);
        }
    }
    let mut seen: BTreeMap<usize, Vec<(String, OrderKey)>> = BTreeMap::new();
    let mut model = Model::default();
    look(&model, history, looks.get(&None), &mut seen)?;
    for (place, executed) in order.all() {
        let Some(command) = history.command(place.1) else {
            return violation("agreement", format!("{} was executed and never submitted", place.1));
        };
        let right = model.execute(place.0, place.1, command);
        ensure(right == executed.outcome, "model", || {
            format!("{}: {:?}\n  gave {:?}\n  must {right:?}", place.1, command.op, executed.outcome)
        })?;
        look(&model, history, looks.get(&Some(*place)), &mut seen)?;
    }
    for (index, operation) in history.operations.iter().enumerate() {
        let Some(Read { answer: Answer::Objects(objects), .. }) = &operation.read else { continue };
        let mut right = seen.remove(&index).unwrap_or_default();
        right.sort();
        ensure(*objects == right, "listing", || format!("listing {index} gave {objects:?}\n  must {right:?}"))?;
    }
    Ok(())
}

/// Every key that any command names, by bucket: what a listing may show.
fn keys(history: &History) -> BTreeMap<&str, Vec<&str>> {
    let mut keys: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for operation in &history.operations {
        let Ask::Write(command) = &operation.ask else { continue };
        for (bucket, key) in super::search::written(command) {
            keys.entry(bucket).or_default().push(key);
        }
    }
    for keys in keys.values_mut() {
        keys.sort_unstable();
        keys.dedup();
    }
    keys
}

fn plan<'a>(
    looks: &mut Looks<'a>,
    order: &Order,
    keys: &BTreeMap<&'a str, Vec<&'a str>>,
    index: usize,
    ask: &'a Ask,
    read: &Read,
) {
    let mut look_at = |bucket: &'a str, key: &'a str| {
        let chain = order.chain_of(Slot::of(bucket, key));
        let after = read.reading.in_chain(chain).checked_sub(1).map(|last| order.chains()[chain][last]);
        looks.entry(after).or_default().push((index, bucket, key));
    };
    match ask {
        Ask::Get { bucket, key } => look_at(bucket, key),
        Ask::List { bucket } => {
            for key in keys.get(bucket.as_str()).into_iter().flatten() {
                look_at(bucket, key);
            }
        }
        Ask::Write(_) => {}
    }
}

fn look(
    model: &Model,
    history: &History,
    looks: Option<&Vec<(usize, &str, &str)>>,
    seen: &mut BTreeMap<usize, Vec<(String, OrderKey)>>,
) -> Checked {
    for (index, bucket, key) in looks.into_iter().flatten() {
        let versions = model.buckets.get(*bucket).and_then(|bucket| bucket.keys.get(*key));
        let current = versions.and_then(|versions| versions.last());
        let right = current.and_then(|version| Some((version.order, version.content.as_ref()?.etag.clone())));
        match history.operations[*index].read.as_ref().map(|read| &read.answer) {
            Some(Answer::Object(object)) => ensure(*object == right, "read", || {
                format!("read {index} of {bucket}/{key} gave {object:?}\n  must {right:?}")
            })?,
            Some(Answer::Objects(_)) => {
                if let Some((order, _)) = right {
                    seen.entry(*index).or_default().push(((*key).to_owned(), order));
                }
            }
            None => {}
        }
    }
    Ok(())
}
