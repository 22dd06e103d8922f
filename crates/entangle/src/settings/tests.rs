//! Precedence and completeness of the settings.
#![allow(clippy::unwrap_used)]

use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().map(|(name, value)| (name.into(), value.into()))).unwrap()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn nothing_at_all_gives_the_defaults() {
    let settings = Settings::load(Layer::new(), &Environment::default(), None).unwrap();
    assert_eq!(settings.data, Path::new("entangle-data"));
    assert_eq!(settings.keys, Path::new("entangle-data-keys"));
    assert_eq!(settings.s3.to_string(), "127.0.0.1:9000");
    assert_eq!(settings.admin.unwrap().to_string(), "127.0.0.1:9600");
    assert_eq!(settings.bench, Bench::default());
    let node = node::NodeConfig::new("entangle-data");
    assert_eq!(settings.disk_reserve_len, node.reserve_len);
    assert_eq!(settings.disk_journal_len, node.checkpoint_len);
    assert_eq!(settings.memory_state_len, node.state_cache_len);
    assert_eq!(settings.memory_objects_len, node.object_cache_len);
    assert_eq!(settings.write_timeout, node.write_timeout);
    assert_eq!(settings.region, node.region);
    assert_eq!(settings.receipts, node.receipts);
}

#[test]
fn flags_over_environment_over_file_over_defaults() {
    let file = file("region = \"from-file\"\n[s3]\nlisten = \"127.0.0.1:1\"\n[admin]\nlisten = \"127.0.0.1:2\"\n");
    let environment = environment(&[("ENTANGLE_S3", "127.0.0.1:3"), ("ENTANGLE_ADMIN", "127.0.0.1:4")]);
    let flags = Layer::from([("admin.listen", "127.0.0.1:5".to_owned())]);
    let settings = Settings::load(flags, &environment, Some(file.path())).unwrap();
    assert_eq!(settings.region, "from-file");
    assert_eq!(settings.s3.port(), 3);
    assert_eq!(settings.admin.unwrap().port(), 5);
    assert_eq!(settings.data, Path::new("entangle-data"));
}

#[test]
fn every_setting_has_three_names_and_each_is_read() {
    for row in TABLE {
        let path = file(&format!("{} = \"from the file\"", row.key));
        let mut layers = Layers {
            flags: Layer::from([(row.key, "from the flag".to_owned())]),
            environment: &environment(&[(row.variable, "from the environment")]),
            file: file::read(path.path()).unwrap(),
            path: path.path(),
        };
        assert_eq!(layers.find(row.key), Sourced { text: "from the flag".into(), origin: Origin::Flag(row.flag) });
        layers.flags.clear();
        assert_eq!(layers.find(row.key).origin, Origin::Variable(row.variable));
        let nothing = Environment::default();
        layers.environment = &nothing;
        assert_eq!(layers.find(row.key).text, "from the file");
        layers.file.clear();
        assert_eq!(layers.find(row.key).text, row.default);
    }
}

#[test]
fn errors_name_where_the_value_was_found() {
    let path = file("[s3]\nlisten = \"nine thousand\"\n");
    let refused = Settings::load(Layer::new(), &Environment::default(), Some(path.path())).unwrap_err();
    assert!(refused.sentence.starts_with("s3.listen in "), "{refused}");
    let refused = Settings::load(Layer::new(), &environment(&[("ENTANGLE_MEMORY_STATE", "much")]), None).unwrap_err();
    assert!(refused.sentence.starts_with("ENTANGLE_MEMORY_STATE: \"much\" is no size"), "{refused}");
    assert_eq!(refused.exit, crate::exit::Exit::Usage);
}

#[test]
fn a_certificate_needs_its_key() {
    let flags = Layer::from([("s3.tls_cert", "cert.pem".to_owned())]);
    let refused = Settings::load(flags, &Environment::default(), None).unwrap_err();
    assert!(refused.sentence.contains("--s3-tls-cert is given alone"), "{refused}");
    assert!(refused.sentence.contains("--s3-tls-key"), "{refused}");
}

#[test]
fn settings_for_measurements_come_from_the_environment() {
    let found = environment(&[("ENTANGLE_FLUSH_DELAY_MS", "5"), ("ENTANGLE_BENCH_LEDGER", "off")]);
    let settings = Settings::load(Layer::new(), &found, None).unwrap();
    assert_eq!(settings.bench, Bench { flush_delay: Duration::from_millis(5), without_ledger: true });
    for (name, value) in [("ENTANGLE_FLUSH_DELAY_MS", "five"), ("ENTANGLE_BENCH_LEDGER", "maybe")] {
        let refused = Settings::load(Layer::new(), &environment(&[(name, value)]), None).unwrap_err();
        assert!(refused.sentence.starts_with(name), "{refused}");
    }
}

#[test]
fn the_documentation_has_the_same_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let text = std::fs::read_to_string(path).unwrap();
    for row in TABLE {
        let start = format!("| `--{}` | `{}` | `{}` |", row.flag, row.variable, row.key);
        let line = text.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("docs/cli.md has no row {start}"));
        assert!(row.default.is_empty() || line.contains(&format!("| `{}` |", row.default)), "{line}");
    }
}
