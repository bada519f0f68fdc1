//! A TCP connection that lets the kernel send content from the page cache. What the registry hands out of a mapped
//! object is recognised by its address ([`Mappings`]), and `sendfile` sends the same range of the file: no byte of it
//! passes through this process. Everything else is written as usual, so that this is right for any bytes.

use longshore_storage::{FilePart, Mappings};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    net::{SendAncillaryBuffer, SendFlags, sendmsg, sockopt::set_tcp_cork},
};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// The stream.
#[derive(Debug)]
pub(super) struct Direct {
    stream: TcpStream,
    mappings: Mappings,
    /// Segments that are not full wait for more: while a file is sent, but for its end, until the next flush. Without
    /// that the kernel sends more and smaller ones to a single reader, for a fifth more of its time; and to hold back
    /// the end would make one more segment of it.
    is_corked: bool,
}

impl Direct {
    pub(super) fn new(stream: TcpStream, mappings: Mappings) -> Self {
        Self { stream, mappings, is_corked: false }
    }

    /// Runs a system call that sends, once the socket has room. It is told to send `length` bytes.
    ///
    /// Where it sent less, the socket is most likely full. To find that out by sending once more is dear with
    /// `sendfile`, which collects the pages first and gives them back; so the kernel is asked whether there is room, and
    /// if there is none, the next call waits for it without a try of its own.
    fn poll_send(
        &self,
        context: &mut Context<'_>,
        length: usize,
        mut send: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let mut sent = 0;
            // `WouldBlock` makes tokio wait for the next event; one that comes while this runs is not missed.
            let outcome = self.stream.try_io(Interest::WRITABLE, || {
                sent = send(&self.stream)?;
                if sent < length && !has_room(&self.stream) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(sent) }
            });
            match outcome {
                Err(error) if is_passing(&error) && sent == 0 => {}
                Err(error) if is_passing(&error) => return Poll::Ready(Ok(sent)),
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn cork(&mut self, corked: bool) -> io::Result<()> {
        if self.is_corked != corked {
            set_tcp_cork(&self.stream, corked)?;
            self.is_corked = corked;
        }
        Ok(())
    }

    fn poll_send_file(&mut self, context: &mut Context<'_>, part: &FilePart, length: usize) -> Poll<io::Result<usize>> {
        self.cork(!part.is_end)?;
        self.poll_send(context, length, |stream| {
            let mut offset = part.offset;
            match rustix::fs::sendfile(stream, &part.file, Some(&mut offset), length)? {
                // The file has no more bytes: it was cut, which objects never are.
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                sent => Ok(sent),
            }
        })
    }
}

/// Whether the socket would take more. Only a sure "no" is one: whoever waits for room must have it coming.
fn has_room(stream: &TcpStream) -> bool {
    let mut socket = [PollFd::new(stream, PollFlags::OUT)];
    !matches!(rustix::event::poll(&mut socket, Some(&Timespec::default())), Ok(0))
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl AsyncRead for Direct {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Direct {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.mappings.locate(bytes) {
            Some(part) => self.poll_send_file(context, &part, bytes.len()),
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let locate = |(place, slice): (usize, &IoSlice<'_>)| Some((place, self.mappings.locate(slice)?));
        let Some((first, part)) = slices.iter().enumerate().find_map(locate) else {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        };
        if first == 0 {
            return self.poll_send_file(context, &part, slices[0].len());
        }
        // The head goes out with the beginning of the file and not in a packet of its own.
        let before = &slices[..first];
        let length = before.iter().map(|slice| slice.len()).sum();
        self.poll_send(context, length, |stream| {
            Ok(sendmsg(stream, before, &mut SendAncillaryBuffer::default(), SendFlags::MORE | SendFlags::NOSIGNAL)?)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cork(false)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Buf as _, Bytes, BytesMut};
    use futures_util::TryStreamExt as _;
    use longshore_oci::Algorithm;
    use longshore_storage::{BlobHasher, Delivery, FileStore, ObjectKey};
    use rustix::net::sockopt::tcp_cork;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const LENGTH: usize = 9 * 1024 * 1024 + 4321;

    /// An object, and the pieces of it that are meant for a socket.
    async fn pieces(files: &FileStore) -> (Vec<u8>, Vec<Bytes>) {
        let content: Vec<u8> = (0..LENGTH as u64).map(|place| ((place * place) >> 7) as u8).collect();
        let key = ObjectKey::random();
        let mut writer = files.create(key.clone(), BlobHasher::new(Algorithm::Sha256), Vec::new()).await.unwrap();
        writer.write(content.clone().into()).await.unwrap();
        writer.sync().await.unwrap();
        let reader = files.open_object(&key, LENGTH as u64).await.unwrap();
        let pieces: Vec<Bytes> = reader.range(0..LENGTH as u64, Delivery::Mapped).try_collect().await.unwrap();
        (content, pieces)
    }

    async fn connection(files: &FileStore) -> (Direct, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Direct::new(listener.accept().await.unwrap().0, files.mappings().clone()), far)
    }

    #[tokio::test]
    async fn heads_files_and_tails_arrive_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let files = FileStore::open(folder.path(), 0).unwrap();
        let (content, pieces) = pieces(&files).await;
        assert!(pieces.iter().all(|piece| files.mappings().locate(piece).is_some()), "just written: in the page cache");
        let (mut near, mut far) = connection(&files).await;
        let head = Bytes::from_static(b"a head, then ");
        let tail = Bytes::from_static(b" and a tail");
        let expected = [&head[..], &content, &tail].concat();
        let sending = tokio::spawn(async move {
            let mut queue: Vec<Bytes> = [vec![head], pieces, vec![tail]].concat();
            while !queue.is_empty() {
                // As hyper does it: everything that waits in one call, then on from where that got to.
                let slices: Vec<IoSlice<'_>> = queue.iter().map(|bytes| IoSlice::new(bytes)).collect();
                let mut sent = near.write_vectored(&slices).await.unwrap();
                while let Some(first) = queue.first_mut() {
                    let step = sent.min(first.len());
                    first.advance(step);
                    sent -= step;
                    if !first.is_empty() {
                        break;
                    }
                    queue.remove(0);
                }
            }
            near.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        sending.await.unwrap();
        assert!(received == expected);
    }

    #[tokio::test]
    async fn a_part_of_a_file_is_sent_by_a_plain_write_too() {
        let folder = tempfile::tempdir().unwrap();
        let files = FileStore::open(folder.path(), 0).unwrap();
        let (content, pieces) = pieces(&files).await;
        let (mut near, mut far) = connection(&files).await;
        near.write_all(&pieces[1][7..100_007]).await.unwrap();
        assert!(tcp_cork(&near.stream).unwrap(), "more of the file may follow");
        near.flush().await.unwrap();
        assert!(!tcp_cork(&near.stream).unwrap(), "nothing is held back after a flush");
        let mut received = BytesMut::zeroed(100_000);
        far.read_exact(&mut received).await.unwrap();
        let from = pieces[0].len() + 7;
        assert!(received == content[from..from + 100_000]);
    }
}
