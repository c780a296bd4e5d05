//! What YAML has: mappings, lists and scalars, each with its place.

use saphyr::MarkedYaml;

/// A node.
pub(super) type Node<'y> = MarkedYaml<'y>;

/// A mapping's keys and values, in their order.
pub(super) fn pairs<'n, 'y>(node: &'n Node<'y>) -> Vec<(String, &'n Node<'y>)> {
    let mapping = node.data.as_mapping();
    let all = mapping.into_iter().flatten();
    all.filter_map(|(key, value)| Some((scalar(key)?, value)))
        .collect()
}

pub(super) fn get<'n, 'y>(node: &'n Node<'y>, key: &str) -> Option<&'n Node<'y>> {
    let found = pairs(node).into_iter().find(|(known, _)| known == key);
    found.map(|(_, node)| node)
}

pub(super) fn items<'n, 'y>(node: &'n Node<'y>) -> Vec<&'n Node<'y>> {
    node.data.as_vec().into_iter().flatten().collect()
}

/// A scalar as text.
pub(super) fn scalar(node: &Node<'_>) -> Option<String> {
    let data = &node.data;
    let text = data.as_str().map(str::to_owned);
    let text = text.or_else(|| data.as_integer().map(|number| number.to_string()));
    let text = text.or_else(|| data.as_bool().map(|value| value.to_string()));
    text.or_else(|| data.as_floating_point().map(|number| number.to_string()))
}
