//! k-means (Lloyd 1982) with matrix products, started by k-means++ (Arthur and Vassilvitskii 2007).

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::{Device, Kind, Tensor};

const MOST_ITERATIONS: usize = 100;
/// It ends when the inertia falls by less than this share.
const TOLERANCE: f64 = 1e-4;
/// Points whose distances to all centroids are in memory at once.
const BLOCK: i64 = 1 << 14;

/// Points put into clusters.
#[derive(Debug)]
pub struct Clustering {
    /// `[clusters, dimensions]`: mean of the points of each
    pub centroids: Tensor,
    /// cluster of each point, that of the nearest centroid
    pub cluster_of: Vec<u32>,
    /// sum of the points' squared distances to their centroids
    pub inertia: f64,
}

/// Puts `points`, `[points, dimensions]` float32, into at most `clusters` clusters, none of them empty. There are fewer
/// when there are fewer distinct points. The same points and seed give the same clusters.
///
/// # Errors
///
/// Those of LibTorch; also for no point at all.
pub fn k_means(points: &Tensor, clusters: usize, seed: u64) -> Result<Clustering, tch::TchError> {
    let mut centroids = plus_plus(points, clusters, seed)?;
    let mut nearest = Nearest::of(points, &centroids)?;
    for _ in 0..MOST_ITERATIONS {
        centroids = nearest.means(points, centroids.size()[0]);
        let next = Nearest::of(points, &centroids)?;
        let done = nearest.inertia - next.inertia <= TOLERANCE * nearest.inertia;
        nearest = next;
        if done && nearest.empty(centroids.size()[0])?.is_empty() {
            break;
        }
    }
    // What the last iteration may have emptied goes.
    let count = centroids.size()[0];
    let empty = nearest.empty(count)?;
    if !empty.is_empty() {
        let kept: Vec<i64> = (0..count).filter(|cluster| !empty.contains(cluster)).collect();
        centroids = centroids.index_select(0, &Tensor::from_slice(&kept));
        nearest = Nearest::of(points, &centroids)?;
    }
    let cluster_of = Vec::<i64>::try_from(&nearest.cluster_of)?.into_iter().map(|cluster| cluster as u32).collect();
    Ok(Clustering { centroids, cluster_of, inertia: nearest.inertia })
}

/// k-means++: each further centroid is a point drawn in proportion to its squared distance to the nearest one so far.
fn plus_plus(points: &Tensor, clusters: usize, seed: u64) -> Result<Tensor, tch::TchError> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut chosen = vec![rng.random_range(0..points.size()[0].max(1))];
    let mut distances = Tensor::full(points.size()[0], f64::INFINITY, (Kind::Float, Device::Cpu));
    while chosen.len() < clusters {
        let newest = points.f_select(0, chosen[chosen.len() - 1])?;
        let to_newest = (points - newest).square().sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        distances = distances.minimum(&to_newest);
        let so_far = distances.cumsum(0, Kind::Double);
        let total = so_far.double_value(&[-1]);
        if total <= 0.0 {
            break; // every point is a centroid
        }
        let at = Tensor::from_slice(&[rng.random::<f64>() * total]);
        // To the right: a point at no distance is never drawn.
        let drawn = at.searchsorted(&so_far, false, true, "right", None::<&Tensor>).int64_value(&[0]);
        chosen.push(drawn.min(points.size()[0] - 1));
    }
    points.f_index_select(0, &Tensor::from_slice(&chosen))
}

/// The nearest centroid of each point.
struct Nearest {
    /// `[points]` int64
    cluster_of: Tensor,
    /// `[points]` squared distances
    distances: Tensor,
    inertia: f64,
}

impl Nearest {
    fn of(points: &Tensor, centroids: &Tensor) -> Result<Self, tch::TchError> {
        let squares = |rows: &Tensor| rows.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let (transposed, of_centroids) = (centroids.tr(), squares(centroids));
        let (mut cluster_of, mut distances) = (Vec::new(), Vec::new());
        for block in points.f_split(BLOCK, 0)? {
            // |x − c|² = |x|² − 2 x·c + |c|², of which |x|² changes nothing about which is the least.
            let (least, cluster) = (&of_centroids - block.matmul(&transposed) * 2.0).min_dim(1, false);
            distances.push((least + squares(&block)).clamp_min(0.0));
            cluster_of.push(cluster);
        }
        let distances = Tensor::f_cat(&distances, 0)?;
        let inertia = distances.sum(Kind::Double).double_value(&[]);
        Ok(Self { cluster_of: Tensor::f_cat(&cluster_of, 0)?, distances, inertia })
    }

    fn counts(&self, clusters: i64) -> Tensor {
        self.cluster_of.bincount(None::<&Tensor>, clusters)
    }

    fn empty(&self, clusters: i64) -> Result<Vec<i64>, tch::TchError> {
        Vec::<i64>::try_from(self.counts(clusters).eq(0).nonzero().view(-1))
    }

    /// The clusters' means; an empty cluster starts again at one of the points that are farthest from their centroids.
    fn means(&self, points: &Tensor, clusters: i64) -> Tensor {
        let counts = self.counts(clusters);
        let mut sums = Tensor::zeros([clusters, points.size()[1]], (Kind::Float, Device::Cpu));
        let means = sums.index_add_(0, &self.cluster_of, points) / counts.clamp_min(1).unsqueeze(1);
        let empty = counts.eq(0).nonzero().view(-1);
        let (_, farthest) = self.distances.topk(empty.size()[0], 0, true, true);
        means.index_copy(0, &empty, &points.index_select(0, &farthest))
    }
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, Normal};

    use super::*;

    /// Points normal around the corners of a square: deviation 0.1, sides of 10.
    fn blobs(each: usize) -> Tensor {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        let law = Normal::new(0.0f32, 0.1).expect("a deviation");
        let corners = [[0.0f32, 0.0], [0.0, 10.0], [10.0, 0.0], [10.0, 10.0]];
        let points: Vec<f32> =
            (0..4 * each).flat_map(|point| corners[point % 4].map(|corner| corner + law.sample(&mut rng))).collect();
        Tensor::from_slice(&points).view([4 * each as i64, 2])
    }

    #[test]
    fn separate_blobs_are_the_clusters() {
        for seed in 0..10 {
            let clustering = k_means(&blobs(50), 4, seed).expect("clusters");
            let of = &clustering.cluster_of;
            assert!((0..200).all(|point| of[point] == of[point % 4]), "seed {seed}: {of:?}");
            assert_eq!(of[..4].iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
            // 200 points in two dimensions of variance 0.01
            assert!((clustering.inertia - 4.0).abs() < 1.0, "{}", clustering.inertia);
        }
    }

    #[test]
    fn centroids_are_the_means_and_points_belong_to_the_nearest() {
        let points = blobs(25);
        let clustering = k_means(&points, 9, 3).expect("clusters");
        let coordinates = Vec::<f32>::try_from(points.view(-1)).expect("values");
        let centroids = Vec::<f32>::try_from(clustering.centroids.contiguous().view(-1)).expect("values");
        let distance = |point: usize, cluster: usize| {
            (0..2).map(|axis| (coordinates[2 * point + axis] - centroids[2 * cluster + axis]).powi(2)).sum::<f32>()
        };
        for (point, &cluster) in clustering.cluster_of.iter().enumerate() {
            let own = distance(point, cluster as usize);
            assert!((0..centroids.len() / 2).all(|other| own <= distance(point, other) + 1e-4));
        }
        assert!((0..9).all(|cluster| clustering.cluster_of.contains(&cluster)));
    }

    #[test]
    fn no_more_clusters_than_distinct_points() {
        let points = Tensor::from_slice(&[1.0f32, 2.0, 1.0, 2.0, 1.0]).view([5, 1]);
        let clustering = k_means(&points, 4, 1).expect("clusters");
        assert_eq!(clustering.centroids.size(), [2, 1]);
        assert_eq!(clustering.inertia, 0.0);
    }

    #[test]
    fn an_emptied_cluster_starts_again_at_the_farthest_point() {
        let points = Tensor::from_slice(&[0.0f32, 1.0, 10.0, 30.0]).view([4, 1]);
        let centroids = Tensor::from_slice(&[1.0f32, -100.0]).view([2, 1]);
        let means = Nearest::of(&points, &centroids).expect("nearest").means(&points, 2);
        assert_eq!(Vec::<f32>::try_from(means.view(-1)).expect("values"), [10.25, 30.0]);
    }
}
