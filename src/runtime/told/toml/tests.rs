use super::*;

#[test]
fn each_way_of_writing_it() {
    let of = |text: &str, wanted: &str| -> Vec<String> {
        let mut found = Vec::new();
        each(text, &mut |key, texts| found.extend(texts.into_iter().filter(|_| key == wanted)));
        found
    };
    for text in [
        "[a.\"b.c\"]\nd = \"/x\" # y\n",
        "a = { 'b.c' = { d = \"/x\" }, e = 1 }\n",
        "a.\"b.c\".d='/x'\r\n",
        "[a]\nn = [1, [2, 3], {z = \"}\"}] \n \"b.c\" = { e = [true, \"]\"], d = '''/x''' }",
        "[[a]] # one of several\n\"b.c\".d = \"/x\"",
        "[ a . 'b.c' ]\nx = [\n \"[y]\", # ]\n 'z',\n]\nt = 1979-05-27T07:32:00Z\nm = \"\"\"\nd = \"no\"\n\"\"\"\nd = \"/x\"",
        "junk\n= 3\na = \"open\n[a.\"b.c\"]\nd = \"/x\"",
    ] {
        assert_eq!(of(text, "a.b.c.d"), ["/x"], "{text}");
    }
    assert_eq!(of("i = [ # x\n'a', \"b\"\n,\"c\"]\n", "i"), ["a", "b", "c"]);
    assert_eq!(of(r#"i = "a\"b\\c\u0041""#, "i"), [r#"a"b\c\u0041"#]);
    assert_eq!(of("[a]\nx = 1\n[\"]\nroot = \"/x\"\n", "a.root"), [""; 0], "a name that makes no sense");
    let long = format!("{}.d = 'a'\n[{0}]\nd = 'b'\n", "k".repeat(LONGEST));
    assert_eq!(of(&long, &format!("{}.d", "k".repeat(LONGEST))), [""; 0]);
    let deep = format!("i = {}'a'{}\nj = 'b'", "[".repeat(9999), "]".repeat(9999));
    assert_eq!((of(&deep, "i").len(), of(&deep, "j")), (0, vec!["b".to_owned()]));
}
