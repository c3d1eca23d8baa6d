"""Which folders are on a network's file system, by what the kernel lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.watch.mounts import network_file_system

MOUNTS = r"""
/dev/sda1 / ext4 rw 0 0
server:/export /srv/share nfs4 rw 0 0
//server/team /srv/with\040blank cifs rw 0 0
user@host:/ /home/me/remote fuse.sshfs rw 0 0
/dev/sdb1 /srv/share/local ext4 rw 0 0
server:/old /srv/hidden nfs rw 0 0
/dev/sdc1 /srv/hidden xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        pytest.param("/var/docs", None, id="local"),
        pytest.param("/srv/share/docs", "nfs4", id="nfs"),
        pytest.param("/srv/with blank/docs", "cifs", id="blank-in-its-name"),
        pytest.param("/home/me/remote", "fuse.sshfs", id="fuse"),
        pytest.param("/srv/share/local/docs", None, id="local-disk-mounted-in-a-share"),
        pytest.param("/home", "fuse.sshfs", id="share-mounted-below"),
        pytest.param("/srv/sharepoint", None, id="name-that-begins-alike"),
        pytest.param("/srv/hidden/docs", None, id="later-mount-hides-an-earlier-one"),
    ],
)
def test_network_file_system_is_known_by_the_mount_that_holds_the_folder(
    folder: str, kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mounts"
    table.write_text(MOUNTS.lstrip())
    monkeypatch.setattr("tasks.watch.mounts.MOUNTS", table)
    assert network_file_system(folder) == kind


def test_system_without_that_list_has_no_network_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.watch.mounts.MOUNTS", tmp_path / "none")
    assert network_file_system("/srv") is None
