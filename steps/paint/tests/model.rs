//! The network's shapes and the properties of its losses.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use auria_paint::model::config::Config;
use auria_paint::model::damsm;
use auria_paint::model::discriminator::Discriminator;
use auria_paint::model::generator::Generator;
use auria_paint::model::image_encoder::{ImageEncoder, Seen};
use auria_paint::model::text_encoder::{Captions, Encoded, TextEncoder};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

fn shape(store: &VarStore, name: &str) -> Vec<i64> {
    store
        .variables()
        .get(name)
        .unwrap_or_else(|| panic!("there is no {name}"))
        .size()
}

fn captions(rows: &[&[i64]]) -> Captions {
    let longest = rows.iter().map(|r| r.len()).max().unwrap();
    let flat: Vec<i64> = rows
        .iter()
        .flat_map(|r| r.iter().copied().chain(std::iter::repeat(0)).take(longest))
        .collect();
    Captions {
        words: Tensor::from_slice(&flat).view([rows.len() as i64, longest as i64]),
        lengths: Tensor::from_slice(&rows.iter().map(|r| r.len() as i64).collect::<Vec<_>>()),
    }
}

/// Names and shapes are those of the authors' PyTorch code for COCO.
#[test]
fn the_published_generator_has_the_published_shapes() {
    let config = Config {
        vocabulary: 50,
        ..Config::published(0)
    };
    let store = VarStore::new(Device::Cpu);
    let generator = Generator::new(&store.root(), &config);
    let text = TextEncoder::new(&store.root(), &config);
    for (name, expected) in [
        ("ca_net.fc.weight", vec![400, 256]),
        ("h_net1.fc.0.weight", vec![24576, 200]),
        ("h_net1.upsample1.1.weight", vec![768, 768, 3, 3]),
        ("h_net1.upsample4.1.weight", vec![96, 96, 3, 3]),
        ("h_net2.att.conv_context.weight", vec![48, 256, 1, 1]),
        ("h_net3.residual.2.block.0.weight", vec![192, 96, 3, 3]),
        ("h_net3.residual.2.block.3.weight", vec![96, 96, 3, 3]),
        ("h_net3.upsample.1.weight", vec![96, 96, 3, 3]),
        ("img_net3.img.0.weight", vec![3, 48, 3, 3]),
        ("rnn.weight_ih_l0_reverse", vec![512, 300]),
    ] {
        assert_eq!(shape(&store, name), expected, "{name}");
    }
    let encoded = text.forward(&captions(&[&[3, 4, 5]]), false);
    assert_eq!(encoded.words.size(), [1, 256, 3]);
    assert_eq!(encoded.sentence.size(), [1, 256]);
    let painted = tch::no_grad(|| {
        generator.forward(&encoded, &Tensor::zeros([1, 100], FLOAT), None, 3, false)
    });
    let sides: Vec<Vec<i64>> = painted.pictures.iter().map(Tensor::size).collect();
    assert_eq!(
        sides,
        [
            vec![1, 3, 64, 64],
            vec![1, 3, 128, 128],
            vec![1, 3, 256, 256]
        ]
    );
    assert_eq!(painted.attention[1].size(), [1, 3, 128, 128]);
}

#[test]
fn the_small_parts_fit_together() {
    let config = Config::small(30);
    let store = VarStore::new(Device::Cpu);
    let root = store.root();
    let image = ImageEncoder::new(&(&root / "image"), &config);
    let seen = tch::no_grad(|| image.forward(&Tensor::zeros([2, 3, 64, 64], FLOAT), false));
    assert_eq!(seen.regions.size(), [2, config.shared, 8, 8]);
    assert_eq!(seen.whole.size(), [2, config.shared]);
    for stage in 0..3 {
        let critic = Discriminator::new(&(&root / stage), &config, stage);
        let side = config.side(stage);
        let features = tch::no_grad(|| critic.features(&Tensor::zeros([2, 3, side, side], FLOAT)));
        assert_eq!(
            features.size(),
            [2, 8 * config.discriminator, 4, 4],
            "stage {stage}"
        );
        assert_eq!(critic.fits(&features, &seen.whole).size(), [2]);
    }
    assert_eq!(shape(&store, "2.img_code_s64_1.0.weight"), [256, 512, 3, 3]);
}

#[test]
fn padding_and_neighbours_change_no_caption() {
    let config = Config {
        dropout: 0.0,
        ..Config::small(20)
    };
    let store = VarStore::new(Device::Cpu);
    let text = TextEncoder::new(&store.root(), &config);
    let alone = text.forward(&captions(&[&[5, 6]]), false);
    let among = text.forward(&captions(&[&[7, 8, 9, 10], &[5, 6], &[1]]), false);
    assert!(
        among
            .sentence
            .get(1)
            .allclose(&alone.sentence.get(0), 1e-5, 1e-6, false)
    );
    assert!(
        among
            .words
            .get(1)
            .narrow(1, 0, 2)
            .allclose(&alone.words.get(0), 1e-5, 1e-6, false)
    );
    let ended = Vec::<bool>::try_from(among.padding.get(1)).unwrap();
    assert_eq!(ended, [false, false, true, true]);
    // Attention leaves padding out, so a longer neighbour does not repaint a picture.
    let generator = Generator::new(&store.root(), &config);
    let z = Tensor::ones([1, config.noise], FLOAT);
    let paint = |text: &Encoded| {
        tch::no_grad(|| {
            generator
                .forward(text, &z, None, 2, false)
                .pictures
                .remove(1)
        })
    };
    let row = among.select(&Tensor::from_slice(&[1i64]));
    assert!(paint(&row).allclose(&paint(&alone), 1e-4, 1e-5, false));
}

/// Pictures and captions that point the same way, one direction for each pair.
fn matched(config: &Config, pairs: i64) -> (Seen, Encoded) {
    let directions = Tensor::eye_m(pairs, config.shared, FLOAT) * 3.0;
    let seen = Seen {
        regions: directions
            .view([pairs, config.shared, 1, 1])
            .expand([pairs, config.shared, 2, 2], false),
        whole: directions.shallow_clone(),
    };
    let text = Encoded {
        words: directions
            .unsqueeze(2)
            .expand([pairs, config.shared, 3], false),
        sentence: directions,
        padding: Tensor::zeros([pairs, 3], (Kind::Bool, Device::Cpu)),
    };
    (seen, text)
}

#[test]
fn the_damsm_loss_rewards_the_right_pairs_in_both_directions() {
    let config = Config::small(10);
    let (seen, text) = matched(&config, 6);
    let none = Tensor::zeros([6, 6], (Kind::Bool, Device::Cpu));
    let right = damsm::loss(&config, &seen, &text, &none);
    let wrong = damsm::loss(
        &config,
        &seen,
        &text.select(&Tensor::from_slice(&[1i64, 2, 3, 4, 5, 0])),
        &none,
    );
    assert!(right.words.double_value(&[]) < 0.02, "{:?}", right.words);
    assert!(
        right.sentences.double_value(&[]) < 0.02,
        "{:?}",
        right.sentences
    );
    assert!(wrong.words.double_value(&[]) > 10.0 && wrong.sentences.double_value(&[]) > 10.0);
    // Where everything is alike, both directions are at chance: 2 log 6 each.
    let alike = text.select(&Tensor::from_slice(&[0i64; 6]));
    let chance = damsm::loss(&config, &seen, &alike, &none)
        .sentences
        .double_value(&[]);
    assert!(chance > 2.0 * 6f64.ln() - 0.01, "{chance}");
}

#[test]
fn captions_that_fit_as_well_are_left_out_of_the_loss() {
    let config = Config::small(10);
    let (seen, text) = matched(&config, 4);
    // Pair 1 shows and says the same as pair 0.
    let rows = Tensor::from_slice(&[0i64, 0, 2, 3]);
    let seen = Seen {
        regions: seen.regions.index_select(0, &rows),
        whole: seen.whole.index_select(0, &rows),
    };
    let text = text.select(&rows);
    let none = Tensor::zeros([4, 4], (Kind::Bool, Device::Cpu));
    let same = none.copy();
    let _ = same.get(0).get(1).fill_(1);
    let _ = same.get(1).get(0).fill_(1);
    let blind = damsm::loss(&config, &seen, &text, &none)
        .total()
        .double_value(&[]);
    let fair = damsm::loss(&config, &seen, &text, &same)
        .total()
        .double_value(&[]);
    assert!(fair < 0.05 && blind > 1.0, "{fair} and {blind}");
}
