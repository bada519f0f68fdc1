//! All that can happen to a cache, in any order.

use super::*;
use proptest::prelude::*;
use std::io::Write;

#[derive(Debug, Clone)]
enum Step {
    Offer(usize, u64),
    Read(usize, u64),
    Touch(usize, u64),
    Forget(usize),
    Restart,
    /// Something happens to a file behind our back.
    Damage(prop::sample::Index, Damage),
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index),
    Cut(prop::sample::Index),
    Remove,
    Swap(prop::sample::Index),
}

/// Objects of these sizes.
const SIZES: [u64; 6] = [1, 70_000, MIB, MIB + 1, 2 * MIB, 2 * MIB + 12_345];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..SIZES.len() * 3, 0..3_u64);
    let damage = prop_oneof![
        any::<prop::sample::Index>().prop_map(Damage::Flip),
        any::<prop::sample::Index>().prop_map(Damage::Cut),
        Just(Damage::Remove),
        any::<prop::sample::Index>().prop_map(Damage::Swap),
    ];
    prop::collection::vec(
        prop_oneof![
            8 => place().prop_map(|(object, number)| Step::Offer(object, number)),
            8 => place().prop_map(|(object, number)| Step::Read(object, number)),
            1 => place().prop_map(|(object, number)| Step::Touch(object, number)),
            1 => (0..SIZES.len() * 3).prop_map(Step::Forget),
            1 => Just(Step::Restart),
            2 => (any::<prop::sample::Index>(), damage).prop_map(|(file, damage)| Step::Damage(file, damage)),
        ],
        20..150,
    )
}

fn inflict(damage: &Damage, file: &Path, files: &[PathBuf]) {
    let mut bytes = fs::read(file).unwrap();
    match damage {
        Damage::Flip(at) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] ^= 0x10;
            File::create(file).unwrap().write_all(&bytes).unwrap();
        }
        Damage::Cut(at) => {
            File::options().write(true).open(file).unwrap().set_len(at.index(bytes.len() + 1) as u64).unwrap();
        }
        Damage::Swap(with) => {
            let other = &files[with.index(files.len())];
            let theirs = fs::read(other).unwrap();
            // What is longer than its name says would take more than is counted.
            if theirs.len() == bytes.len() {
                fs::write(other, bytes).unwrap();
                fs::write(file, theirs).unwrap();
            }
        }
        Damage::Remove | Damage::Flip(_) => fs::remove_file(file).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever is taken, pushed out, damaged and started again: what the disk gives is right, and it holds no more
    /// than it may.
    #[test]
    fn the_bytes_are_right_or_not_there(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let folder = folder();
            let mut disk = open(folder.path(), 17).await;
            let objects: Vec<_> = (0..SIZES.len() * 3).map(|_| ObjectKey::random()).collect();
            for step in steps {
                match step {
                    Step::Offer(object, number) => {
                        let (key, size) = (&objects[object], SIZES[object % SIZES.len()]);
                        disk.offer(key, number, size, &bytes_of(key, number, length_of(number, size)));
                        disk.settle().await;
                    }
                    Step::Read(object, number) => {
                        let (key, size) = (&objects[object], SIZES[object % SIZES.len()]);
                        let is_held = !disk.held(key, size, number..number + 1).is_empty();
                        let read: Vec<_> = disk.read(key, size, number..number + 1).collect().await;
                        assert!(is_held || read.is_empty());
                        for bytes in read {
                            assert!(bytes_of(key, number, length_of(number, size)) == bytes);
                        }
                    }
                    Step::Touch(object, number) => disk.touch(&objects[object], number),
                    Step::Forget(object) => {
                        disk.forget(&objects[object], SIZES[object % SIZES.len()]);
                        disk.settle().await;
                    }
                    Step::Restart => {
                        drop(disk);
                        disk = open(folder.path(), 17).await;
                    }
                    Step::Damage(file, damage) => {
                        let files = files(folder.path());
                        if !files.is_empty() {
                            inflict(&damage, &files[file.index(files.len())], &files);
                        }
                    }
                }
                assert!(bytes_on_disk(folder.path()) <= 17 * MIB);
            }
            assert_eq!(disk.usage().errors, 0);
        });
    }
}
