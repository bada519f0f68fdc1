//! Makes a history that fails shorter, for whoever has to read it.

/// So many histories are played for it at most.
const PLAYS: usize = 400;

/// Takes pieces out of it, large ones first, as long as it fails without them; with why the short one fails.
pub(crate) fn shorten<T: Clone>(
    mut history: Vec<T>,
    mut why: String,
    fails: impl Fn(&[T]) -> Option<String>,
) -> (Vec<T>, String) {
    let mut plays = 0;
    let mut piece = history.len() / 2;
    while piece > 0 && plays < PLAYS {
        let mut at = 0;
        while at < history.len() && plays < PLAYS {
            let mut without = history.clone();
            without.drain(at..(at + piece).min(history.len()));
            plays += 1;
            match fails(&without) {
                Some(reason) => (history, why) = (without, reason),
                None => at += piece,
            }
        }
        piece /= 2;
    }
    (history, why)
}

#[test]
fn what_is_not_needed_is_taken_out() {
    let fails = |history: &[u32]| (history.contains(&3) && history.contains(&70)).then(|| "both".to_owned());
    let (short, why) = shorten((0..100).collect(), "first".to_owned(), fails);
    assert_eq!((short, why.as_str()), (vec![3, 70], "both"));
}
