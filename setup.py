"Everything about the package is said once, in settings.ini; this file only hands it to setuptools."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).resolve().parent
parser = ConfigParser(delimiters=['='])
parser.read(here/'settings.ini', encoding='utf8')
cfg = parser['DEFAULT']
lib = cfg['lib_path']

def words(key):
    "The words of a setting."
    return cfg.get(key, '').split()

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], author=cfg['author'],
    url=cfg['git_url'], keywords=words('keywords'), license='Apache-2.0', license_files=['LICENSE'],
    long_description=(here/'README.md').read_text(encoding='utf8'), long_description_content_type='text/markdown',
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Science/Research',
                 'Natural Language :: Amharic', 'Topic :: Text Processing :: Linguistic'] +
                [f'Programming Language :: Python :: 3.{minor}' for minor in (10, 11, 12, 13)],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=[lib, f'{lib}.*']),
    package_data={lib: ['configs/*.yaml', 'policy/*.yaml', 'sample/*', 'sample_held_out/*', 'sample_tasks/*', 'mixes/*.yaml', 'page/*', 'lm_eval_tasks/*', 'weights/**/*']},
    install_requires=words('requirements'),
    extras_require={key.removesuffix('_requirements'): words(key) for key in cfg if key.endswith('_requirements')},
    entry_points={'console_scripts': words('console_scripts'), 'nbdev': [f"{cfg['lib_name']}={lib}._modidx:d"]},
    # an editable install by path, so that a folder named like the package in the working directory cannot hide it
    options={'editable_wheel': {'mode': 'compat'}}, zip_safe=False)
