//! The known word a mistyped one was probably meant to be.

/// The one of `known` that `written` most resembles; `None` when nothing is near.
pub fn closest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    // Of one or two letters, only their case can be a slip.
    let most = written.chars().count() / 3;
    known
        .iter()
        .map(|word| (distance(written, word), *word))
        .filter(|(distance, word)| *distance <= most && *word != written)
        .min()
        .map(|(_, word)| word)
}

/// How many letters must be put in, left out, replaced or swapped with their neighbour to make
/// `b` of `a`, whatever their case (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| -> Vec<char> { text.to_lowercase().chars().collect() };
    let (a, b) = (letters(a), letters(b));
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(x != y);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        let known = ["gateway", "mac", "port", "ports", "onlink"];
        assert_eq!(closest("gatewy", &known), Some("gateway"));
        assert_eq!(closest("gatewya", &known), Some("gateway"));
        assert_eq!(closest("Mac", &known), Some("mac"));
        assert_eq!(closest("prot", &known), Some("port"));
        assert_eq!(closest("on-link", &known), Some("onlink"));
        assert_eq!(closest("queues", &known), None);
        assert_eq!(closest("", &known), None);
        assert_eq!(closest("b", &["A", "a"]), None);
        assert_eq!(closest("b", &["A", "B"]), Some("B"));
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
