fn main() {
    let c = libseccomp::ScmpFilterContext::new(libseccomp::ScmpAction::Allow).unwrap();
    let f = std::fs::File::create("/tmp/x.bpf").unwrap();
    println!("{:?}", c.export_bpf(&f));
}
