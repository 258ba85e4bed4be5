//! Rows on their way into a table by `COPY … FROM STDIN`.

use std::fmt::{Display, Write};

use sqlx::PgConnection;

use crate::catalog::error::CatalogError;

/// Rows for `COPY` in text format: fields separated by tabs, `\N` for null.
#[derive(Default)]
pub(in crate::catalog) struct CopyRows {
    text: String,
    rows: u64,
}

impl CopyRows {
    pub(in crate::catalog) fn field(&mut self, value: impl Display) -> &mut Self {
        // Writing to a String can't fail.
        let _ = write!(self.text, "{value}\t");
        self
    }

    pub(in crate::catalog) fn optional(&mut self, value: Option<impl Display>) -> &mut Self {
        match value {
            Some(value) => self.field(value),
            None => self.field("\\N"),
        }
    }

    pub(in crate::catalog) fn text(&mut self, value: &str) -> &mut Self {
        for character in value.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '\t' => self.text.push_str("\\t"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                other => self.text.push(other),
            }
        }
        self.text.push('\t');
        self
    }

    pub(in crate::catalog) fn optional_text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.field("\\N"),
        }
    }

    pub(in crate::catalog) fn end_row(&mut self) {
        self.text.pop(); // the last tab
        self.text.push('\n');
        self.rows += 1;
    }

    pub(in crate::catalog) async fn send(
        self,
        connection: &mut PgConnection,
        statement: &'static str,
    ) -> Result<u64, CatalogError> {
        if self.rows == 0 {
            return Ok(0);
        }
        let mut copy = connection.copy_in_raw(statement).await?;
        copy.send(self.text.into_bytes()).await?;
        Ok(copy.finish().await?)
    }
}
