// Gradient descent in Rust, with the standard library alone.
use std::{env, fs, path::Path, thread, time::Duration};

fn main() {
    let rate: f64 = env::args().nth(1).expect("a rate").parse().expect("a number");
    let folder = env::var("ORCH_CHECKPOINT_DIR").expect("a folder");
    let (saved, new) = (format!("{folder}/state"), format!("{folder}/state.new"));
    let hold = env::var("USERS_HOLD").unwrap_or_default();
    let (mut step, mut x) = (0, [4.0_f64, -1.5, 2.5]);
    if let Ok(text) = fs::read_to_string(&saved) {
        let bits: Vec<u64> = text.split(' ').map(|word| word.parse().unwrap()).collect();
        step = bits[0];
        for (place, each) in x.iter_mut().enumerate() {
            *each = f64::from_bits(bits[place + 1]);
        }
    }
    while step < 8 {
        step += 1;
        for (place, each) in x.iter_mut().enumerate() {
            *each -= rate * (place + 1) as f64 * each.tanh();
        }
        let bits: Vec<String> = x.iter().map(|each| each.to_bits().to_string()).collect();
        fs::write(&new, format!("{step} {}", bits.join(" "))).expect("a disk");
        fs::rename(&new, &saved).expect("a disk");
        let loss: f64 = x.iter().map(|each| each * each).sum();
        println!("{{\"step\": {step}, \"loss\": {loss}}}");
        while step == 2 && !hold.is_empty() && Path::new(&hold).exists() {
            thread::sleep(Duration::from_millis(50));
        }
    }
}
