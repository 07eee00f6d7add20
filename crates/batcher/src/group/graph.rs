//! The declared edges, and what they must not form.

use std::collections::VecDeque;

/// Nodes by number, and edges from producer to consumer.
pub(super) struct Graph {
    edges: Vec<(usize, usize)>,
    /// The consumers of each node.
    consumers: Vec<Vec<usize>>,
}

impl Graph {
    /// A graph of so many nodes; edges beyond them are left out.
    pub(super) fn new(nodes: usize, edges: &[(usize, usize)]) -> Self {
        let edges: Vec<_> = edges.iter().copied().filter(|&(a, b)| a < nodes && b < nodes).collect();
        let mut consumers = vec![Vec::new(); nodes];
        for &(producer, consumer) in &edges {
            consumers[producer].push(consumer);
        }
        Self { edges, consumers }
    }

    /// The nodes of a cycle in the order of its edges, the first one again at the end.
    pub(super) fn cycle(&self) -> Option<Vec<usize>> {
        self.edges.iter().find_map(|&(producer, consumer)| {
            let back = self.path(consumer, producer)?;
            Some([producer].into_iter().chain(back).collect())
        })
    }

    /// The nodes of a shortest path, both ends included.
    pub(super) fn path(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let mut came_from = vec![None; self.consumers.len()];
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            if node == to {
                let mut path = vec![to];
                let mut at = to;
                while at != from {
                    at = came_from[at]?;
                    path.push(at);
                }
                path.reverse();
                return Some(path);
            }
            for &next in &self.consumers[node] {
                if next != from && came_from[next].is_none() {
                    came_from[next] = Some(node);
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_and_cycles_are_shown_in_order() {
        let graph = Graph::new(5, &[(0, 1), (1, 2), (2, 3), (0, 4), (4, 3)]);
        assert_eq!(graph.cycle(), None);
        assert_eq!(graph.path(0, 3), Some(vec![0, 4, 3]));
        assert_eq!(graph.path(3, 0), None);
        assert_eq!(graph.path(2, 2), Some(vec![2]));
        assert_eq!(Graph::new(4, &[(3, 0), (0, 1), (1, 2), (2, 0)]).cycle(), Some(vec![0, 1, 2, 0]));
        assert_eq!(Graph::new(1, &[(0, 0)]).cycle(), Some(vec![0, 0]));
        assert_eq!(Graph::new(0, &[]).cycle(), None);
    }

    proptest! {
        /// A graph has no cycle exactly where its nodes can be taken away one by one, each without producers by then.
        #[test]
        fn cycles_are_found_where_no_order_exists(
            nodes in 1usize..7,
            edges in prop::collection::vec((0usize..7, 0usize..7), 0..12),
        ) {
            let edges: Vec<_> = edges.into_iter().map(|(a, b)| (a % nodes, b % nodes)).collect();
            let graph = Graph::new(nodes, &edges);
            let mut left: Vec<usize> = (0..nodes).collect();
            while let Some(at) =
                left.iter().position(|&n| !edges.iter().any(|&(a, b)| b == n && left.contains(&a)))
            {
                left.remove(at);
            }
            match graph.cycle() {
                None => prop_assert!(left.is_empty()),
                Some(cycle) => {
                    prop_assert!(!left.is_empty());
                    prop_assert_eq!(cycle.first(), cycle.last());
                    prop_assert!(cycle.len() > 1);
                    for step in cycle.windows(2) {
                        prop_assert!(edges.contains(&(step[0], step[1])));
                    }
                }
            }
        }
    }
}
