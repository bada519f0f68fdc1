//! Tests of what is told from the turns, and of the arguments.

use clap::Parser;

use super::*;
use crate::figures::Figure;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    arguments: CompareArguments,
}

fn turn(subject: &str, round: usize, speed: f64, client_bound: bool) -> Turn {
    Turn {
        case: "pull-1KiB",
        connections: 16,
        subject: subject.to_owned(),
        round,
        figures: Figures::default().with(Figure::OperationsPerSecond, Some(speed)),
        client_bound,
        detail: json!({}),
    }
}

#[test]
fn turns_are_gathered_by_subject() {
    let turns = [turn("a", 0, 1.0, true), turn("b", 0, 9.0, false), turn("a", 1, 3.0, true), turn("b", 1, 7.0, true)];
    let rows = rows_of(&turns);
    let shown: Vec<_> = rows.iter().map(|row| (row.subject.as_str(), row.turns.len(), row.client_bound)).collect();
    assert_eq!(shown, [("a", 2, true), ("b", 2, false)]);
    assert_eq!(Figures::median(&rows[1].turns).speed(), Some(8.0));
}

#[test]
fn registries_are_given_by_name_url_and_pids() {
    let zot = parse_foreign("zot=http://127.0.0.1:5000,12,13").unwrap();
    assert_eq!((zot.name.as_str(), zot.url.as_str()), ("zot", "http://127.0.0.1:5000"));
    assert_eq!(zot.pids, [12, 13]);
    for odd in ["zot", "zot=http://127.0.0.1:5000", "=http://127.0.0.1:1,2", "nginx=http://127.0.0.1:1,2", "z=u,x"] {
        assert!(parse_foreign(odd).is_err(), "{odd} was accepted");
    }
}

#[test]
fn arguments_have_defaults_and_bounds() {
    let parsed = Command::try_parse_from(["compare"]).unwrap().arguments;
    assert_eq!((parsed.windows.seconds, parsed.windows.rounds, parsed.cold_blobs), (2, 3, 32));
    assert_eq!((parsed.subjects().len(), parsed.base()), (6, None));
    let on_s3 = Command::try_parse_from(["compare", "--storage=s3", "--only=pull-*"]).unwrap().arguments;
    assert_eq!((on_s3.subjects().len(), on_s3.base()), (3, Some("distribution-s3")));
    for name in parsed.subjects().iter().chain(&on_s3.subjects()) {
        assert!(SUBJECTS.contains(&name.as_str()));
    }
    for odd in ["--rounds=0", "--seconds=0", "--seconds=61", "--cold-blobs=65", "--connections=0"] {
        assert!(Command::try_parse_from(["compare", odd]).is_err(), "{odd} was accepted");
    }
}
