"""Archives: the bytes of their commits and lists, which branches may go into one, and what one holds."""

from __future__ import annotations

import pytest

from cas import catalog, outbox
from cas.errors import ConflictError, GitCommandFailedError
from cas.lmdbenv import Table
from cas.meta import read_meta
from cas.objects import Person, object_id, parse_tree
from gitexport import archivelist, archivesummary
from gitexport.archivable import BranchJudge, LeftBranch, head_branch, old_branches
from gitexport.archive import Archive, without_archived_tags
from gitexport.archivelist import RolledBranch, build_archive, list_bytes, parse_list, root_tree
from gitexport.archivesummary import ArchiveSummary
from gitexport.entries import load_entry
from gitexport.packedrefs import HEADER
from gitexport.writer import write_made
from tests.gitexport.refplaces import commit as git_commit
from tests.gitexport.refplaces import git
from tests.store.stores import commit, open_store

ANN = Person("Ann", "ann@example.org")
ONE = RolledBranch("refs/heads/w/one", "1" * 40, 5_999_999, (("refs/tags/corr_1", "a" * 40, "1" * 40),))
TWO = RolledBranch(
    "refs/heads/w/two",
    "2" * 40,
    3_000_000,
    (("refs/tags/p", "b" * 40, None), ("refs/tags/c", "c" * 40, "2" * 40)),
)


# ---- bytes ----------------------------------------------------------------------------------------------------------


def test_list_has_the_form_of_packed_refs_and_is_read_back():
    data = list_bytes([TWO, ONE])
    assert (
        data
        == HEADER
        + (
            f"{'1' * 40} refs/heads/w/one\n{'2' * 40} refs/heads/w/two\n{'c' * 40} refs/tags/c\n^{'2' * 40}\n"
            f"{'a' * 40} refs/tags/corr_1\n^{'1' * 40}\n{'b' * 40} refs/tags/p\n"
        ).encode()
    )
    assert parse_list(data) == {
        ONE.name: ONE.commit, TWO.name: TWO.commit, "refs/tags/c": "c" * 40, "refs/tags/corr_1": "a" * 40,
        "refs/tags/p": "b" * 40,
    }  # fmt: skip
    assert list_bytes([]) == HEADER
    assert parse_list(b"") == {}
    assert parse_list(b"x caf\xe9\n") == {"caf\ufffd": "x"}
    assert ONE.short_name == "w/one"


def built(*branches, tip=None, object_format="sha1"):
    return build_archive(branches, tip, ANN, "store-7", 1, object_format)


def parsed(form):
    """Return the commits of a form in order: parents, time, message and the list each carries."""
    by_oid = {item.oid: item for item in form.objects}
    found = []
    for oid in form.commits:
        item = by_oid[bytes.fromhex(oid)]
        assert item.oid == object_id(item.kind, item.data)
        head, _, message = item.data.decode().partition("\n\n")
        lines = [line.split(" ") for line in head.split("\n")]
        tree = by_oid[bytes.fromhex(lines[0][1])]
        (entry,) = parse_tree(tree.data)
        assert entry.name == b"packed-refs"
        assert lines[-1][:3] == ["committer", "Ann", "<ann@example.org>"]
        parents = [line[1] for line in lines if line[0] == "parent"]
        found.append((parents, int(lines[-1][3]), message, by_oid[entry.oid].data))
    return found


def test_archive_begins_with_an_empty_list_and_goes_on_with_branches():
    first, second = parsed(built(ONE, TWO))
    told = "The parents but the first are their commits; the file packed-refs lists them"
    assert first == ([], 1, "Begin an archive of branches\n\nStore: store-7\n", HEADER)
    assert second == (
        [built(ONE, TWO).commits[0], ONE.commit, TWO.commit],
        5,
        f"Roll up 2 branches\n\n{told} with 3 tags.\n",
        list_bytes([ONE, TWO]),
    )
    assert len(built(ONE, TWO).objects) == 6


def test_archive_that_goes_on_has_its_tip_as_first_parent():
    ((parents, seconds, message, data),) = parsed(built(ONE, tip="7" * 40))
    assert (parents, seconds, data) == (["7" * 40, ONE.commit], 5, list_bytes([ONE]))
    assert message.startswith("Roll up 1 branch\n\n")
    assert message.endswith("lists them with 1 tag.\n")


def test_branches_on_one_commit_are_one_parent():
    same = RolledBranch("refs/heads/x", ONE.commit, 0, ())
    ((parents, *_),) = parsed(built(ONE, same, tip="7" * 40))
    assert parents == ["7" * 40, ONE.commit]


def test_many_branches_are_cut_into_commits_in_their_order(monkeypatch):
    monkeypatch.setattr(archivelist, "PARENTS_PER_COMMIT", 2)
    branches = [RolledBranch(f"refs/heads/{n}", f"{n}" * 40, n * 1_000_000, ()) for n in range(1, 6)]
    commits = parsed(built(*branches))
    assert [[parent[0] for parent in parents[1:]] for parents, *_ in commits] == [
        [],
        ["1", "2"],
        ["3", "4"],
        ["5"],
    ]
    assert [seconds for _, seconds, *_ in commits] == [1, 2, 4, 5]
    assert [parents[0] for parents, *_ in commits[1:]] == list(built(*branches).commits[:-1])
    assert built() == built()
    assert len(built().commits) == 1


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_root_tree_is_the_one_an_archive_begins_with(object_format):
    form = built(object_format=object_format)
    assert root_tree(object_format) in {item.oid for item in form.objects if item.kind == "tree"}
    assert {len(item.oid) for item in form.objects} == {20 if object_format == "sha1" else 32}


def test_summary_counts_all_and_lists_some(monkeypatch):
    monkeypatch.setattr(archivesummary, "_LISTED", 1)
    summary = ArchiveSummary()
    for branch in (TWO, ONE):
        summary.take(branch)
        summary.leave(LeftBranch(branch.short_name, "why"))
        summary.keep(branch.name, "because")
    assert (summary.branch_count, summary.refs, summary.left_count, summary.kept_count) == (2, 5, 2, 2)
    assert summary.branches == [
        {
            "branch": "w/two",
            "commit_sha": "2" * 40,
            "committed_at": "1970-01-01T00:00:03Z",
            "tags": ["p", "c"],
        }
    ]
    assert summary.left == [{"branch": "w/two", "reason": "why"}]
    assert summary.kept_at_remote == [{"ref": "refs/heads/w/two", "reason": "because"}]


def test_state_of_a_roll_up_says_who_is_needed():
    for changes, state in (
        ({}, "done"), ({"pending": "x"}, "pending"), ({"stopped": True}, "pending"),
        ({"refused": "x", "pending": "y"}, "parked"),
    ):  # fmt: skip
        summary = ArchiveSummary(**changes)
        assert summary.state == summary.as_dict()["state"] == state


# ---- which branches -------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "s") as opened:
        yield opened


def exported(store, sequences, *, pushed=()):
    with store.environment.write() as transaction:
        outbox.record_exported(transaction, sequences, now_us=1)
        if pushed:
            outbox.record_pushed(transaction, pushed, now_us=2)


def rows(store):
    with store.environment.read() as transaction:
        return dict(catalog.iter_rows(transaction))


def show(store, repo, *sequences, **moved):
    """Let the repository show the refs of some manifests, a few of them elsewhere."""
    refs = {}
    for sequence in sequences:
        with store.environment.read() as transaction:
            entry = load_entry(transaction, sequence)
        refs |= {entry.branch: entry.commit, **dict(entry.tags)}
    refs |= moved
    lines = "".join(f"{oid} {name}\n" for name, oid in sorted(refs.items()) if oid)
    (repo.common_dir / "packed-refs").write_text("# pack-refs with: sorted \n" + lines)
    return refs


def judge(store, repo, *batch, must_be_pushed=False):
    found = BranchJudge(store, repo, Archive(store, repo), must_be_pushed=must_be_pushed)
    ready, left = found.judge(batch)
    return ready, {item.branch: item.reason for item in left}


T1, T2 = "ai/generated/wf/t1", "ai/generated/wf/t2"


def test_old_branches_are_those_of_the_prefix_that_are_old_enough(store):
    for number in range(4):
        commit(store, f"c{number}", task_id=f"t{number}")
    store.revert_to_tag("corr_c0", "main")
    names = [f"ai/generated/wf/t{number}" for number in range(4)]
    everything = list(enumerate(names, 1))
    assert old_branches(store, older_than_s=None, keep_newest=None) == everything
    assert old_branches(store, older_than_s=None, keep_newest=0) == everything
    assert old_branches(store, older_than_s=None, keep_newest=1) == everything[:3]
    assert old_branches(store, older_than_s=None, keep_newest=9) == []
    with store.environment.read() as transaction:
        second_us = catalog.get_head(transaction, 2).created_at_us
    store._clock = lambda: (second_us + 2_500_000) * 1000
    assert old_branches(store, older_than_s=2.5, keep_newest=None) == everything[:1]
    assert old_branches(store, older_than_s=2.4, keep_newest=None) == everything[:2]
    assert old_branches(store, older_than_s=2.4, keep_newest=3) == everything[:1]
    assert old_branches(store, older_than_s=10**7, keep_newest=None) == []


def test_branch_whose_commit_is_damaged_counts_as_old(store):
    commit(store, "c", task_id="t1")
    store.revert_to_tag("corr_c", "ai/generated/wf/x")
    with store.environment.write() as transaction:
        transaction.put(Table.MANIFESTS, catalog.sequence_key(2), b"damaged")
    assert old_branches(store, older_than_s=1, keep_newest=None)[-1:] == [(2, "ai/generated/wf/x")]


def test_head_of_a_repository_is_its_branch_or_none(repo):
    assert head_branch(repo) == "refs/heads/main"
    git(repo.path, "update-ref", "--no-deref", "HEAD", git_commit(repo.path))
    assert head_branch(repo) is None


def test_branch_that_stands_where_it_was_put_is_ready_with_all_its_tags(store, repo):
    commit(store, "a", task_id="t1", prompt_hash="0123456789abcdef")
    commit(store, "b", task_id="t1")
    exported(store, [1, 2])
    refs = show(store, repo, 1, 2)
    (ready,), left = judge(store, repo, (2, T1))
    first, second = rows(store).values()
    assert left == {}
    assert (ready.name, ready.commit) == (f"refs/heads/{T1}", second.commit_oid.hex())
    with store.environment.read() as transaction:
        assert ready.created_at_us == catalog.get_head(transaction, 2).created_at_us
    assert {name: (oid, behind) for name, oid, behind in ready.tags} == {
        "refs/tags/corr_b": (refs["refs/tags/corr_b"], second.commit_oid.hex()),
        "refs/tags/corr_a": (refs["refs/tags/corr_a"], first.commit_oid.hex()),
        "refs/tags/prompt_0123456789ab": (refs["refs/tags/prompt_0123456789ab"], first.commit_oid.hex()),
    }


def test_tag_that_is_gone_is_left_out_and_one_that_was_moved_keeps_its_branch(store, repo):
    commit(store, "a", task_id="t1")
    commit(store, "b", task_id="t2")
    exported(store, [1, 2])
    show(store, repo, 1, 2, **{"refs/tags/corr_a": None, "refs/tags/corr_b": "9" * 40})
    ready, left = judge(store, repo, (1, T1), (2, T2))
    assert [(one.short_name, one.tags) for one in ready] == [(T1, ())]
    assert left == {T2: "has a tag that someone else moved: corr_b"}


def test_branch_that_is_gone_or_elsewhere_stays(store, repo):
    commit(store, "a", task_id="t1")
    commit(store, "b", task_id="t2")
    exported(store, [1, 2])
    show(store, repo, 1, 2, **{f"refs/heads/{T1}": None, f"refs/heads/{T2}": "9" * 40})
    newest = rows(store)[2].commit_oid.hex()
    assert judge(store, repo, (1, T1), (2, T2), (9, "ai/generated/wf/none")) == (
        [],
        {
            T1: "is gone from the repository; `cas export --rebuild` writes it again",
            T2: f"was moved by someone else: it is at 999999999999, the store's newest is {newest[:12]}",
            "ai/generated/wf/none": "is damaged in the store: it has no commits",
        },
    )


def test_branch_that_is_checked_out_stays(store, repo):
    commit(store, "a", task_id="t1")
    exported(store, [1])
    show(store, repo, 1)
    git(repo.path, "symbolic-ref", "HEAD", f"refs/heads/{T1}")
    assert judge(store, repo, (1, T1)) == ([], {T1: f"is checked out in {repo.path}"})


def test_branch_with_anything_that_waits_stays(store, repo):
    for name in ("a", "b", "c", "d", "e"):
        commit(store, name, task_id=name)
    exported(store, [2, 3, 4, 5], pushed=[2])
    with store.environment.write() as transaction:
        outbox.record_failure(transaction, 3, reason="refused", now_us=5, park=True)
        outbox.record_failure(transaction, 4, reason="down", now_us=5, park=False)
        transaction.put(Table.MANIFESTS, catalog.sequence_key(5), b"damaged")
    show(store, repo, 1, 2, 3, 4)
    batch = [(number, f"ai/generated/wf/{name}") for number, name in enumerate("abcde", 1)]
    for must_be_pushed in (True, False):
        ready, left = judge(store, repo, *batch, must_be_pushed=must_be_pushed)
        reasons = {branch[-1]: reason for branch, reason in left.items()}
        assert reasons.pop("a") == "has a commit that is not exported yet"
        assert reasons.pop("c") == "has a commit that is parked: refused"
        damage = reasons.pop("e")
        if must_be_pushed:
            assert damage == "has a commit that is not pushed yet"
            assert reasons == {"d": "has a commit that is not pushed yet: down"}
        else:
            assert damage.startswith("is damaged in the store: ")
            assert reasons == {}
        assert [one.short_name[-1] for one in ready] == (["b"] if must_be_pushed else ["b", "d"])


# ---- what an archive holds ------------------------------------------------------------------------------------------


@pytest.fixture
def archived(store, repo):
    """Two branches of the store, the first rolled up by the second commit of the archive, the second by the third."""
    tree = git(repo.path, "mktree")
    assert tree == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    for name, task in (("a", "t1"), ("b", "t1"), ("c", "t2")):
        commit(store, name, task_id=task)
    exported(store, [1, 2, 3])
    with store.environment.read() as transaction:
        entries = [load_entry(transaction, sequence) for sequence in (1, 2, 3)]
        store_id = read_meta(transaction).store_id
    for entry in entries:
        write_made(repo, entry.objects).release_keep()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archivelist, "PARENTS_PER_COMMIT", 1)
        form = build_archive(
            [
                RolledBranch(entry.branch, entry.commit, 1_000_000, ())
                for entry in (entries[1], entries[2])
            ],
            None, ANN, store_id, 1, "sha1",
        )  # fmt: skip
    write_made(repo, form.objects).release_keep()
    ref = f"refs/archive/cas/{store_id}"
    git(repo.path, "update-ref", ref, form.commits[-1])
    return Archive(store, repo), form, entries


def test_archive_tells_its_chain_and_what_each_commit_rolled_up(archived, repo):
    archive, form, entries = archived
    assert archive.tip == form.commits[-1]
    assert [one.oid for one in archive.chain] == list(form.commits)
    assert [one.heads for one in archive.chain] == [(), (entries[1].commit,), (entries[2].commit,)]
    assert archive.chain[0].tree == root_tree("sha1").hex()
    assert [archive.position(oid) for oid in (*form.commits, "1" * 40, None)] == [0, 1, 2, None, None]
    assert archive.trouble is None
    archive.require_own()


def test_archive_holds_the_newest_step_that_was_rolled_up(archived):
    archive, _, entries = archived
    assert archive.head_of(T1) == (2, entries[1].commit)
    assert archive.head_of(T2) == (3, entries[2].commit)
    assert archive.head_of(T1, 1) == (2, entries[1].commit)
    assert archive.head_of(T2, 1) is None
    assert archive.head_of(T1, 0) is None
    assert archive.head_of("ai/generated/wf/none") is None


def test_refs_that_are_lacking_and_archived_are_told(archived):
    archive, _, entries = archived
    everything = {entry.branch: entry.commit for entry in entries[1:]} | {
        name: oid for entry in entries for name, oid in entry.tags
    }
    assert archive.lacking(entries, {}) == everything
    assert archive.lacking(entries, everything) == {}
    assert archive.lacking(entries, {}, 1) == {
        name: oid for name, oid in everything.items() if not name.endswith(("t2", "corr_c"))
    }
    standing = {entries[0].branch: "9" * 40, "refs/tags/corr_a": "8" * 40}
    assert archive.lacking(entries[:2], standing) == {"refs/tags/corr_b": everything["refs/tags/corr_b"]}


def test_tags_of_later_steps_do_not_count_as_archived(archived, store, repo):
    archive, _, _ = archived
    commit(store, "later", task_id="t1")
    with store.environment.read() as transaction:
        later = load_entry(transaction, 4)
    assert archive.lacking([later], {}) == {later.branch: archive.head_of(T1)[1]}


def test_damaged_step_does_not_hide_those_below(archived, store):
    archive, _, entries = archived
    commit(store, "later", task_id="t1")
    with store.environment.write() as transaction:
        transaction.put(Table.MANIFESTS, catalog.sequence_key(4), b"damaged")
    assert archive.head_of(T1) == (2, entries[1].commit)


def test_store_without_an_archive_holds_nothing_in_it(store, repo):
    commit(store, "a", task_id="t1")
    archive = Archive(store, repo)
    assert (archive.tip, archive.chain, archive.head_of(T1)) == (None, [], None)
    archive.require_own()


def test_archive_that_is_something_else_is_refused(archived, store, repo):
    archive, form, _ = archived
    for oid in (git_commit(repo.path), git_commit(repo.path, "x", form.commits[0])):
        git(repo.path, "update-ref", archive.ref, oid)
        wrong = Archive(store, repo)
        if wrong.chain[0].oid == form.commits[0]:
            wrong.require_own()  # goes on from a root that is ours
            continue
        with pytest.raises(ConflictError) as caught:
            wrong.require_own()
        assert caught.value.subject == archive.ref
        assert caught.value.message == f"{archive.ref} is at {oid}, which is no archive that was made here"


def test_archive_that_cannot_be_read_is_trouble_and_holds_nothing(archived, store, repo):
    archive, _, _ = archived
    (repo.common_dir / archive.ref).write_text("1" * 40 + "\n")
    broken = Archive(store, repo)
    assert broken.chain == []
    assert broken.head_of(T1) is None
    assert broken.trouble.startswith(f"{archive.ref} cannot be read: git rev-list failed")
    with pytest.raises(ConflictError) as caught:
        broken.require_own()
    assert caught.value.message == broken.trouble
    repo.options = type(repo.options)(timeout_s=0)
    with pytest.raises(GitCommandFailedError) as caught:
        Archive(store, repo).chain  # noqa: B018  reading it is the act
    assert caught.value.kind == "git_timeout"


def test_branch_whose_newest_step_is_archived_is_neither_ready_nor_left(archived, store, repo):
    assert judge(store, repo, (2, T1), (3, T2)) == ([], {})
    commit(store, "later", task_id="t1")
    exported(store, [4])
    assert judge(store, repo, (4, T1))[1].keys() == {T1}


def test_entry_has_no_tag_that_only_the_archive_has(archived):
    _, _, (entry, *_) = archived
    ((name, oid),) = entry.tags
    without = without_archived_tags(entry, {name: oid, "refs/heads/x": "1" * 40})
    assert [item.kind for item in entry.objects].count("tag") == 1
    assert without.objects == tuple(item for item in entry.objects if item.kind != "tag")
    assert without.tags == entry.tags
    assert without_archived_tags(entry, {"refs/tags/other": oid}) == entry
