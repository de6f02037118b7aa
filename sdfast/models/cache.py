"""What stands in the Hugging Face cache."""

from dataclasses import dataclass, replace

from sdfast.models.find import cached


@dataclass(frozen=True, slots=True)
class Stored:
    """A repository in the cache; `size` in bytes, `whole` if no file it needs is missing."""

    repo: str
    size: int
    whole: bool


def stored() -> list[Stored]:
    """Every repository in the cache that holds a pipeline."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return []
    return [
        Stored(repo.repo_id, repo.size_on_disk, cached(repo.repo_id) is not None)
        for repo in sorted(cache.repos, key=lambda r: r.repo_id)
        if repo.repo_type == "model"
        and any(f.file_name == "model_index.json" for r in repo.revisions for f in r.files)
    ]


def delete(repo: str) -> None:
    """Remove every revision of a model from the cache."""
    from huggingface_hub import scan_cache_dir

    cache = scan_cache_dir()
    meant = frozenset(c for c in cache.repos if (c.repo_type, c.repo_id) == ("model", repo))
    hashes = [r.commit_hash for c in meant for r in c.revisions]
    # a mirror has commits of the same hashes, and huggingface_hub would take either
    replace(cache, repos=meant).delete_revisions(*hashes).execute()
