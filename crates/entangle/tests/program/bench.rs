//! `entangle bench`

use crate::support::Place;

#[test]
fn load_is_made_and_measured() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let short = ["--seconds", "1", "--clients", "2", "--objects", "10", "--size", "2KiB", "--endpoint"];
    let run = |more: &[&str]| place.run(&[&["bench"], &short[..], &[serving.endpoint()], more].concat());
    for op in ["put", "get", "mixed"] {
        let ended = run(&["--op", op, "--keys", "data-keys", "--json"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let measured = &ended.json()["bench"];
        assert!(measured["requests"].as_u64().unwrap() > 0 && measured["op"] == op, "{measured}");
        assert_eq!((measured["size"].as_u64(), measured["clients"].as_u64()), (Some(2048), Some(2)));
    }
    let ended = run(&["--access-key", "nobody", "--secret-key", "no-secret-at-all"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.sentence().contains("does not know the access key"), "{ended:?}");
    let ended = place.run(&["bench", "--endpoint", "http://127.0.0.1:1", "--access-key", "a", "--secret-key", "b"]);
    assert_eq!(ended.code, 5, "{ended:?}");
    let ended = place.run(&["bench", "--endpoint", "https://127.0.0.1:1", "--access-key", "a", "--secret-key", "b"]);
    assert!(ended.code == 2 && ended.sentence().contains("plain HTTP"), "{ended:?}");
    for wrong in [["--size", "huge"], ["--size", "2GiB"], ["--clients", "0"], ["--seconds", "0"]] {
        assert_eq!(run(&wrong).code, 2, "{wrong:?}");
    }
}
