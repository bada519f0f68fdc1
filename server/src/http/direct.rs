//! A TCP connection that lets the kernel send content from the page cache. What the registry hands out of a mapped
//! object is recognised by its address ([`Mappings`]), and `sendfile` sends the same range of the file: no byte of it
//! passes through this process. Everything else is written as usual, so that this is right for any bytes.

use longshore_storage::Mappings;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::{
    fs::File,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
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
}

impl Direct {
    pub(super) fn new(stream: TcpStream, mappings: Mappings) -> Self {
        Self { stream, mappings }
    }

    fn locate(&self, slice: &[u8]) -> Option<(Arc<File>, u64)> {
        self.mappings.locate(slice)
    }

    /// Runs a system call that sends, once the socket has room.
    fn poll_send(
        &self,
        context: &mut Context<'_>,
        mut send: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self.stream.try_io(Interest::WRITABLE, || send(&self.stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn poll_send_file(
        &self,
        context: &mut Context<'_>,
        file: &File,
        offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, |stream| {
            let mut offset = offset;
            match rustix::fs::sendfile(stream, file, Some(&mut offset), length)? {
                // The file has no more bytes: it was cut, which objects never are.
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                sent => Ok(sent),
            }
        })
    }
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
        match self.locate(bytes) {
            Some((file, offset)) => self.poll_send_file(context, &file, offset, bytes.len()),
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(first) = slices.iter().position(|slice| self.locate(slice).is_some()) else {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        };
        if let Some((file, offset)) = self.locate(&slices[first]).filter(|_| first == 0) {
            return self.poll_send_file(context, &file, offset, slices[first].len());
        }
        // The head goes out with the beginning of the file and not in a packet of its own.
        let before = &slices[..first];
        self.poll_send(context, |stream| {
            Ok(sendmsg(stream, before, &mut SendAncillaryBuffer::default(), SendFlags::MORE | SendFlags::NOSIGNAL)?)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
