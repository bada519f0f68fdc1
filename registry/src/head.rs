//! The beginning of a body: many blobs are so small that it is all of them.

use crate::{Chunk, Result};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

impl Chunk {
    /// Reads until the body ends or more than `most` bytes have come. What has come is in `head` also when this is not
    /// waited for to its end. True if that is all.
    pub(crate) async fn read_head(&mut self, most: usize, head: &mut Vec<u8>) -> Result<bool> {
        while head.len() <= most {
            let Some(bytes) = self.body.next().await.transpose()? else {
                self.body = stream::empty().boxed(); // whoever asks it again gets the same answer
                return Ok(true);
            };
            head.extend_from_slice(&bytes);
        }
        Ok(false)
    }

    /// The chunk with the bytes in front that were read from it.
    pub(crate) fn with_head(self, head: Vec<u8>) -> Self {
        if head.is_empty() {
            return self; // no bytes, and no empty write to an object that needs none
        }
        let first = stream::iter([Ok(Bytes::from(head))]);
        Self { body: first.chain(self.body).boxed(), ..self }
    }
}
