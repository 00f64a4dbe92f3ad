//! Trees: their entries, what they leave out, and their limits.

use hutch_wire::v1::TreeRequest;
use tonic::Code;

use super::Scene;

#[tokio::test]
async fn a_tree_has_everything_in_order_except_hidden_entries() {
    let scene = Scene::new().await;
    for (path, content) in [
        ("r/b/c.txt", "text\n"),
        ("r/b.txt", ""),
        ("r/B", "1"),
        ("r/.git/config", "hidden"),
        ("r/.env", "hidden"),
        ("r/node_modules/x/y.js", "left out"),
        ("r/b/__pycache__/z.pyc", "left out"),
        ("r/a\nb/ü", "ü"),
    ] {
        scene.put(path, content);
    }
    scene.put("r/latin", b"b\xf6se");
    scene.put(b"r/\xff", "x");
    scene
        .sh("cd r; mkdir e; mkfifo p; ln -s .. up; ln -s B link; ln -s none broken")
        .await;
    let wanted = [
        "0 d",
        "1 B=1",
        "1 a\\nb d",
        "2 \\xc3\\xbc=ü",
        "1 b d",
        "2 c.txt=text\n",
        "1 b.txt=",
        "1 broken l",
        "1 e d",
        "1 latin",
        "1 link l",
        "1 p s",
        "1 up l",
        "1 \\xff=x",
    ];
    for path in ["r", "r/", "./r/b/..", "r/up/r"] {
        let (tree, truncated) = scene.tree(path, 1 << 20, 0).await.unwrap();
        assert_eq!(tree, wanted, "{path}");
        assert!(!truncated);
    }
    let (tree, _) = scene.tree("r/.git", 1 << 20, 0).await.unwrap();
    assert_eq!(tree, ["0 d", "1 config=hidden"]);
    let (tree, _) = scene.tree("r/B", 1 << 20, 0).await.unwrap();
    assert_eq!(tree, ["0=1"]);
    let (tree, _) = scene.tree("r/p", 1 << 20, 0).await.unwrap();
    assert_eq!(tree, ["0 s"]);
    for path in ["none", "r/broken", "r/none/x"] {
        let refused = scene.tree(path, 0, 0).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
    }
}

#[tokio::test]
async fn contents_and_entries_are_held_to_their_limits() {
    let scene = Scene::new().await;
    for (name, size) in [
        ("a", 10),
        ("b", 9),
        ("c", 200_000),
        ("d", (1 << 20) - 1),
        ("e", 1 << 20),
    ] {
        scene.put(name, "x".repeat(size));
    }
    let lengths = |tree: &[String]| tree.iter().map(String::len).collect::<Vec<_>>();
    let (tree, truncated) = scene.tree(".", 10, 0).await.unwrap();
    assert_eq!(tree, ["0 d", "1 a", "1 b=xxxxxxxxx", "1 c", "1 d", "1 e"]);
    assert!(!truncated, "a file's own limit is no loss");
    let (tree, truncated) = scene.tree(".", u64::MAX, 0).await.unwrap();
    assert_eq!(lengths(&tree), [3, 14, 13, 200_004, (1 << 20) + 3, 3]);
    assert!(!truncated);
    let (tree, truncated) = scene.tree(".", u64::MAX, 200_012).await.unwrap();
    assert_eq!(lengths(&tree), [3, 14, 13, 3, 3, 3]);
    assert!(truncated);
    for (entry_limit, wanted) in [(1, 1), (3, 3), (6, 6), (7, 6)] {
        let request = TreeRequest {
            path: scene.path("."),
            content_limit: 1,
            entry_limit,
            limit: 0,
        };
        let (tree, truncated) = scene.tree_of(request).await.unwrap();
        assert_eq!((tree.len(), truncated), (wanted, entry_limit < 6));
    }
}
