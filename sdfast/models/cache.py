"""What stands in the Hugging Face cache."""

from dataclasses import dataclass

from sdfast.models.find import cached


@dataclass(frozen=True, slots=True)
class Stored:
    """A repository in the cache; `size` in bytes, `whole` if it can be painted with."""

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
    """Remove every revision of a repository from the cache."""
    from huggingface_hub import scan_cache_dir

    cache = scan_cache_dir()
    hashes = [r.commit_hash for c in cache.repos if c.repo_id == repo for r in c.revisions]
    cache.delete_revisions(*hashes).execute()
