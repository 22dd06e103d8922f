//! tmp
#[path = "../tests/common/mod.rs"]
#[allow(warnings)]
mod common;
use catalog::{digest::StateDigest, execute, query, testing::MemoryState};
use common::{command_id, ops, token};
use std::time::Instant;
use types::*;
fn main() {
    let mut d = StateDigest::new();
    let key = vec![1u8; 60];
    let value = vec![2u8; 240];
    for _ in 0..3 {
        let t = Instant::now();
        for _ in 0..100_000 {
            d.add(&key, &value);
        }
        println!("digest add {:?}", t.elapsed() / 100_000);
    }
    for (label, len, tok) in [("1KiB", 1024, false), ("1KiB+token", 1024, true), ("64KiB", 65536, false)] {
        let mut state = MemoryState::default();
        let mk = |op| Command { salt: [0; 32], principal: "a".into(), request: None, op };
        let r = execute(&state, Timestamp(1), command_id(1), &mk(ops::create_bucket("bucket"))).unwrap();
        state.apply(&r.writes);
        let body = "x".repeat(len);
        let n = if len > 10000 { 20_000 } else { 200_000 };
        let mut cmds = vec![];
        for i in 0..n {
            let mut c = mk(ops::put(&format!("key-{}", i % 50_000), &body));
            if tok {
                c.request = token(&i.to_string(), 1);
            }
            cmds.push(c);
        }
        let (mut ex, mut ap) = (0u128, 0u128);
        for (i, c) in cmds.iter().enumerate() {
            let t = Instant::now();
            let r = execute(&state, Timestamp(1_000_000_000 + i as u64), command_id(i as u64 + 2), c).unwrap();
            let u = Instant::now();
            ex += (u - t).as_nanos();
            state.apply(&r.writes);
            ap += u.elapsed().as_nanos();
        }
        println!(
            "{label}: execute {} ns, {:.0}/s; apply+digest {} ns",
            ex / n as u128,
            1e9 / (ex as f64 / n as f64),
            ap / n as u128
        );
        let t = Instant::now();
        for i in 0..50_000 {
            query::object(&state, "bucket", &format!("key-{i}"), None).unwrap();
        }
        println!("object() {:?}", t.elapsed() / 50_000);
        let t = Instant::now();
        let mut after: Option<String> = None;
        let mut pages = 0;
        loop {
            let p = query::list_objects(
                &state,
                &query::ListObjects { bucket: "bucket", max: 1000, after: after.as_deref(), ..Default::default() },
            )
            .unwrap();
            pages += 1;
            after = p.next;
            if after.is_none() {
                break;
            }
        }
        println!("list page {:?}", t.elapsed() / pages);
    }
}
