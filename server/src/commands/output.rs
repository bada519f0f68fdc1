//! What commands say on standard output, line by line. Whoever reads may have enough before the end (`longshore du | head`):
//! that ends the command, and is no failure.

use anyhow::{Context as _, Result};
use std::{
    cell::RefCell,
    fmt::Display,
    future::poll_fn,
    io::{self, ErrorKind, Write},
    pin::pin,
    task::Poll,
};

/// Nobody reads standard output any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more")]
pub(super) struct NobodyReads;

/// Says a line.
pub(super) fn say(line: &(impl Display + ?Sized)) -> Result<()> {
    write_line(&mut io::stdout().lock(), line)
}

fn write_line(out: &mut impl Write, line: &(impl Display + ?Sized)) -> Result<()> {
    match writeln!(out, "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(NobodyReads.into()),
        written => written.context("standard output"),
    }
}

/// Says what work tells while it finds it, which knows nothing of who reads.
#[derive(Debug, Default)]
pub(super) struct Teller {
    /// Why a line could not be said; none was tried after it.
    failure: RefCell<Option<anyhow::Error>>,
}

impl Teller {
    /// Says a line, unless one before it could not be said.
    pub(super) fn tell(&self, line: &(impl Display + ?Sized)) {
        let mut failure = self.failure.borrow_mut();
        if failure.is_none() {
            *failure = say(line).err();
        }
    }

    /// Ends the work as soon as what it tells cannot be said.
    pub(super) async fn hear<T, E: Into<anyhow::Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T> {
        let mut work = pin!(work);
        let heard = poll_fn(|context| {
            let done = work.as_mut().poll(context);
            match self.failure.take() {
                Some(failure) => Poll::Ready(Err(failure)),
                None => done.map_err(Into::into),
            }
        });
        heard.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somewhere to write that fails in this way.
    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_told_from_a_full_disk() {
        let error = |kind| write_line(&mut Broken(kind), "line").unwrap_err();
        assert!(error(ErrorKind::BrokenPipe).is::<NobodyReads>());
        let full = error(ErrorKind::StorageFull);
        assert!(!full.is::<NobodyReads>() && full.to_string().contains("standard output"), "{full:?}");
        let mut said = Vec::new();
        write_line(&mut said, "line").unwrap();
        assert_eq!(said, b"line\n");
    }

    #[tokio::test]
    async fn work_ends_when_what_it_tells_cannot_be_said() {
        let teller = Teller::default();
        let work = async {
            *teller.failure.borrow_mut() = Some(NobodyReads.into());
            std::future::pending::<Result<()>>().await
        };
        assert!(teller.hear(work).await.unwrap_err().context("not all").is::<NobodyReads>());
        assert_eq!(teller.hear(async { Ok::<_, anyhow::Error>(7) }).await.unwrap(), 7);
    }
}
