//! Owns the writing of Markdown tables that can be read as they are.

/// A table: the first line has the headings, and these columns hold text and stand flush left.
pub(crate) fn table(lines: &[Vec<String>], text_columns: &[usize]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let is_text = |column: usize| text_columns.contains(&column);
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            text.push_str("| ");
            text.push_str(&if is_text(column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
            text.push(' ');
        }
        text.push_str("|\n");
        if index == 0 {
            for (column, width) in widths.iter().enumerate() {
                let rule = "-".repeat(width + 1);
                text.push_str(&if is_text(column) { format!("|{rule}-") } else { format!("|{rule}:") });
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let line = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let lines = [line(["name", "µs"]), line(["a", "1000"]), line(["", "2"])];
        assert_eq!(table(&lines, &[0]), "| name |   µs |\n|------|-----:|\n| a    | 1000 |\n|      |    2 |\n");
    }
}
